-- What is to be released, the earliest first: the point as it is now, and the release. Seconds are from now.
SELECT d.id, d.device_id, d.name, d.address, d.ip, d.max_apdu, d.read_multiple,
       d.timeout_seconds, d.retries, d.concurrency, d.cov, d.batch_points, d.batch_since, d.learnt_of,
       p.id, p.object_type, p.object_instance, p.name, p.dis, p.units, p.site, p.equip, p.equip_ref, p.haystack_name,
       p.topic, p.interval_seconds, p.enabled, p.writable, p.minimum, p.maximum, p.states,
       p.publish, p.deadband, p.heartbeat_seconds, p.cov, p.poll_priority,
       r.slot, r.job_id, r.value, r.previous, r.restore, r.cause,
       coalesce(k.command ->> 'source', 'unknown'), CASE WHEN isfinite(r.due_at) THEN extract(epoch FROM r.due_at - clock_timestamp())::float8
            ELSE 'Infinity' END
FROM due_release r
JOIN point p ON p.id = r.point_id
JOIN device d ON d.id = p.device
LEFT JOIN write_claim k ON k.job_id = r.job_id
ORDER BY r.due_at
