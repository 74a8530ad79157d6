SELECT d.id, d.device_id, d.name, d.address, d.ip, d.max_apdu, d.read_multiple,
       d.timeout_seconds, d.retries, d.concurrency, d.cov, d.batch_points, d.batch_since, d.learnt_of,
       p.id, p.object_type, p.object_instance, p.name, p.dis, p.units, p.site, p.equip, p.equip_ref, p.haystack_name,
       p.topic, p.interval_seconds, p.enabled, p.writable, p.minimum, p.maximum, p.states,
       p.publish, p.deadband, p.heartbeat_seconds, p.cov, p.poll_priority
FROM point p JOIN device d ON d.id = p.device
WHERE d.site_id = %(site)s AND d.device_id = %(device)s
  AND p.object_type = %(type)s AND p.object_instance = %(instance)s
