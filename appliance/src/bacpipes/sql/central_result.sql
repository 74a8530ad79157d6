INSERT INTO write_results (job_id, site_id, success, error_message, result)
VALUES (%(job)s, %(site)s, %(success)s, %(error)s, %(result)s::json)
