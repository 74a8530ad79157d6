-- lastSeen: the last read of any of its points that brought a good value.
SELECT d.id, d.device_id AS "deviceId", d.name AS "deviceName", d.address, d.ip AS "deviceIp",
       d.vendor, d.model, count(p.id) AS "pointCount", count(p.id) FILTER (WHERE p.enabled) AS "enabledCount",
       count(*) FILTER (WHERE p.enabled AND v.quality = 2) AS "badCount", max(v.good_time) AS "lastSeen"
FROM device d
LEFT JOIN point p ON p.device = d.id
LEFT JOIN last_value v ON v.point_id = p.id
WHERE d.site_id = %(site)s
GROUP BY d.id
ORDER BY d.device_id
