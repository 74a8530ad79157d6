-- A row of the queue reads like a command from MQTT. It was written by this server's clock, which is ours: so it has
-- no timestamp that a skewed clock could spoil, and ages from created_at.
SELECT jsonb_build_object(
    'jobId', c.job_id, 'deviceId', d.device_id, 'objectType', p.object_type, 'objectInstance', p.object_instance,
    'value', CASE WHEN c.value IN ('NaN', 'Infinity', '-Infinity') THEN to_jsonb(c.value::text) ELSE to_jsonb(c.value) END,
    'priority', c.priority, 'release', c.command_type = 'release_priority',
    'expiresAt', to_char(c.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
    'releaseAfter', CASE WHEN c.command_type = 'write_value' THEN c.release_after END,
    'source', left(nullif(c.created_by, ''), 500), 'reason', left(nullif(c.reason, ''), 500), 'siteId', c.site_id), c.created_at
FROM write_commands c
JOIN point p ON p.id = c.point_id
JOIN device d ON d.id = p.device
WHERE c.site_id = %s
  AND NOT EXISTS (SELECT FROM write_claim k WHERE k.job_id = c.job_id)
ORDER BY c.created_at, c.id
LIMIT 100
