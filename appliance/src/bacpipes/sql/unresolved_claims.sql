SELECT c.command, c.received_at, c.executing_at
FROM write_claim c LEFT JOIN write_results r USING (job_id)
WHERE r.job_id IS NULL
ORDER BY c.received_at
