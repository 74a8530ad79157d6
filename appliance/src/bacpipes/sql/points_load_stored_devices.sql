SELECT d.device_id, d.name, d.address, EXISTS (SELECT FROM point p WHERE p.device = d.id AND p.enabled)
FROM device d
WHERE d.site_id = %(site)s
ORDER BY d.device_id
