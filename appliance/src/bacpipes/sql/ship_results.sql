SELECT seq, job_id, site_id, point_id, success, executed_at, completed_at, error_message, result::text
FROM write_results WHERE seq > %s ORDER BY seq LIMIT 200
