-- One jobId is one job: nothing is inserted where it is known already, whichever way it came.
INSERT INTO write_commands (job_id, site_id, point_id, command_type, value, priority, created_at, expires_at,
                            created_by, reason, source_ip, release_after)
SELECT %(job)s, %(site)s, %(point)s, %(type)s, %(value)s, %(priority)s, coalesce(%(timestamp)s, now()), %(expires)s,
       %(actor)s, %(reason)s, %(ip)s, %(release_after)s
WHERE NOT EXISTS (SELECT FROM write_claim WHERE job_id = %(job)s)
ON CONFLICT (job_id) DO NOTHING
RETURNING id
