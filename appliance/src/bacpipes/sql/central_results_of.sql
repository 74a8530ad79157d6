SELECT job_id, site_id, result::text FROM write_results WHERE job_id = ANY(%s)
