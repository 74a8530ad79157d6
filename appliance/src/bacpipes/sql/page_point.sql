SELECT p.id, d.device_id, d.name AS device_name, p.object_type, p.object_instance, p.dis, p.name, p.units,
       p.haystack_name, p.function, p.writable, p.enabled, p.minimum, p.maximum, p.states,
       CASE WHEN v.value - v.value = 0 THEN v.value END AS value,
       coalesce((ARRAY['good', 'uncertain', 'bad'])[v.quality + 1], 'none') AS quality, v.time AS read_at
FROM point p
JOIN device d ON d.id = p.device
LEFT JOIN last_value v ON v.point_id = p.id
WHERE d.site_id = %(site)s AND p.id = %(point)s
