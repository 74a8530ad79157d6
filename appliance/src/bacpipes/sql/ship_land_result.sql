INSERT INTO public.write_results (job_id, site_id, point_id, success, executed_at, completed_at, error_message, result)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s::json)
