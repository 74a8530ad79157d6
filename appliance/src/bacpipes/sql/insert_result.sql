-- The result and its audit row; a job that has a result keeps it.
WITH stored AS (
    INSERT INTO write_results (job_id, site_id, point_id, success, executed_at, error_message, result)
    VALUES (%(job)s, %(site)s, %(point)s, %(success)s, %(executed)s, %(error)s, %(result)s)
    ON CONFLICT (job_id) DO NOTHING
    RETURNING job_id
)
INSERT INTO audit (actor, action, subject, detail)
SELECT %(actor)s, %(action)s, job_id, %(result)s::json::jsonb FROM stored
