SELECT id, device, object_type, object_instance, name, dis, units, site, equip, equip_ref, haystack_name, topic,
       interval_seconds, enabled, writable, minimum, maximum, states
FROM point
ORDER BY device, object_type, object_instance
