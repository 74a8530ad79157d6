-- As find_point.sql, at central: whether a device takes ReadPropertyMultiple is its site's business.
SELECT 0, d.device_id, d.name, d.address, d.ip, NULL::integer, true,
       p.id, p.object_type, p.object_instance, p.name, p.dis, p.units, p.site_id, p.equip, p.equip_ref, p.haystack_name,
       p.topic, p.interval_seconds, p.enabled, p.writable, p.minimum, p.maximum, p.states
FROM point p JOIN device d USING (site_id, device_id)
WHERE p.site_id = %(site)s AND p.device_id = %(device)s
  AND p.object_type = %(type)s AND p.object_instance = %(instance)s
