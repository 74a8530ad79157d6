SELECT result FROM write_results WHERE job_id = %s
