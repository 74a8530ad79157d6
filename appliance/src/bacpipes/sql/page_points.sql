SELECT p.id, d.device_id AS device, d.name AS device_name, p.object_type || ':' || p.object_instance AS object,
       p.object_type, p.object_instance, p.name, p.dis, p.units, coalesce(p.haystack_name, '') AS haystack,
       coalesce(p.topic, '') AS topic, coalesce(p.equip || ' ' || p.equip_ref, '') AS equipment,
       p.equip, p.equip_ref, p.function, p.quantity, p.substance, p.location, p.qualifier,
       p.interval_seconds AS interval, p.enabled, p.writable, p.minimum AS min, p.maximum AS max, p.states,
       p.publish, p.deadband, p.heartbeat_seconds AS heartbeat,
       p.writes_per_minute, p.min_on_seconds AS min_on, p.min_off_seconds AS min_off,
       p.cov, coalesce(p.poll_priority, '') AS poll_priority,
       CASE WHEN v.value - v.value = 0 THEN v.value END AS value,
       coalesce((ARRAY['good', 'uncertain', 'bad'])[v.quality + 1], 'none') AS quality, v.reason, v.time AS read_at,
       p.updated_at
FROM point p
JOIN device d ON d.id = p.device
LEFT JOIN last_value v ON v.point_id = p.id
WHERE d.site_id = %(site)s
ORDER BY d.device_id, p.object_type, p.object_instance
