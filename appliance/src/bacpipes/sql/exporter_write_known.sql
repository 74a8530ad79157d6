SELECT FROM write_commands WHERE job_id = %s
