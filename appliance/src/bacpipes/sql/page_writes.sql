-- The latest commands, whichever way they came, and what became of them.
SELECT coalesce(c.created_at, k.received_at, r.completed_at) AS at, coalesce(r.job_id, c.job_id) AS job,
       coalesce(c.created_by, k.command->>'source', 'MQTT') AS actor,
       coalesce(p.haystack_name, r.result->>'objectType' || ':' || (r.result->>'objectInstance'), 'unknown') AS point,
       coalesce(p.dis, '') AS dis, coalesce(p.units, '') AS units,
       coalesce(r.result->>'value', c.value::text) AS value,
       coalesce(c.command_type = 'release_priority', k.command->>'release' = 'true', false) AS release,
       coalesce(r.result->>'priority', c.priority::text) AS priority,
       coalesce(c.reason, k.command->>'reason', '') AS reason,
       CASE WHEN r.success THEN 'done' WHEN r.job_id IS NOT NULL THEN 'refused' ELSE 'pending' END AS outcome,
       coalesce(r.error_message, '') AS error, r.result->>'before' AS before, r.result->>'after' AS after
FROM write_results r
FULL JOIN (SELECT * FROM write_commands WHERE site_id = %(site)s) c USING (job_id)
LEFT JOIN write_claim k ON k.job_id = coalesce(r.job_id, c.job_id)
LEFT JOIN point p ON p.id = coalesce(r.point_id, c.point_id)
WHERE (r.site_id = %(site)s OR c.site_id = %(site)s) AND (%(point)s::integer IS NULL OR p.id = %(point)s)
ORDER BY 1 DESC NULLS LAST
LIMIT %(limit)s
