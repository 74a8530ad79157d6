-- Devices that did not answer at their latest poll, or are only probed because they are silent.
SELECT d.device_id, d.name, d.address, count(*) AS points, max(l.good_time) AS good_time, max(l.reason) AS reason
FROM device d
JOIN point p ON p.device = d.id AND p.enabled
JOIN last_value l ON l.point_id = p.id
GROUP BY d.id
HAVING max(l.time) FILTER (WHERE l.reason IN ('no answer from the device', 'silent device: it is probed until it answers'))
       > coalesce(max(l.time) FILTER (WHERE l.reason NOT IN ('no answer from the device', 'silent device: it is probed until it answers')
                                      OR l.reason IS NULL), '-infinity')
ORDER BY d.device_id
