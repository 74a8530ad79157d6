INSERT INTO point (device, object_type, object_instance, name, dis, units, site, equip, equip_ref, function, quantity,
                   substance, location, qualifier, interval_seconds, enabled, writable, minimum, maximum, states,
                   writes_per_minute, min_on_seconds, min_off_seconds, publish, deadband, heartbeat_seconds, cov,
                   poll_priority, topic)
SELECT d.id, s.object_type, s.object_instance, s.name, s.dis, s.units, d.site_id, s.equip, s.equip_ref, s.function,
       s.quantity, s.substance, s.location, s.qualifier, s.interval_seconds, s.enabled, s.writable, s.minimum,
       s.maximum, s.states, s.writes_per_minute, s.min_on_seconds, s.min_off_seconds, s.publish, s.deadband,
       s.heartbeat_seconds, s.cov, s.poll_priority, s.topic
FROM points_stage s
JOIN device d ON d.site_id = %(site)s AND d.device_id = s.device_id
WHERE s.id IS NULL
ORDER BY s.line
