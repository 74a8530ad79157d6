COPY points_stage (id, device_id, object_type, object_instance, name, dis, units, equip, equip_ref, function, quantity,
                   substance, location, qualifier, interval_seconds, enabled, writable, minimum, maximum, states,
                   writes_per_minute, min_on_seconds, min_off_seconds, publish, deadband, heartbeat_seconds, cov,
                   poll_priority, topic,
                   line) FROM STDIN
