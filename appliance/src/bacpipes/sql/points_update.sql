UPDATE point p SET
    name = s.name, dis = s.dis, units = s.units, equip = s.equip, equip_ref = s.equip_ref, function = s.function,
    quantity = s.quantity, substance = s.substance, location = s.location, qualifier = s.qualifier,
    interval_seconds = s.interval_seconds, enabled = s.enabled, writable = s.writable, minimum = s.minimum,
    maximum = s.maximum, states = s.states, writes_per_minute = s.writes_per_minute,
    min_on_seconds = s.min_on_seconds, min_off_seconds = s.min_off_seconds,
    publish = s.publish, deadband = s.deadband, heartbeat_seconds = s.heartbeat_seconds, cov = s.cov,
    poll_priority = s.poll_priority, topic = s.topic, updated_at = now()
FROM points_stage s
WHERE p.id = s.id
