SELECT p.id, d.device_id, d.name, d.address, p.object_type, p.object_instance, p.name, p.dis, p.units,
       p.equip, p.equip_ref, p.function, p.quantity, p.substance, p.location, p.qualifier,
       p.interval_seconds, p.enabled, p.writable, p.minimum, p.maximum, p.states,
       p.writes_per_minute, p.min_on_seconds, p.min_off_seconds,
       p.publish, p.deadband, p.heartbeat_seconds, p.cov, p.poll_priority, p.topic
FROM point p
JOIN device d ON d.id = p.device
WHERE d.site_id = %(site)s
ORDER BY d.device_id, p.object_type, p.object_instance
