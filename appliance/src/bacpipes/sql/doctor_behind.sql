-- Devices that were too slow for their points within the last hour.
SELECT d.device_id, d.name, count(*) AS points, max(g.until) AS last
FROM (SELECT unnest(point_ids) AS point_id, until FROM gap
      WHERE until > now() - INTERVAL '1 hour'
        AND reason IN ('the previous poll was still running', 'the device is too slow: left out for what goes first')) AS g
JOIN point p ON p.id = g.point_id
JOIN device d ON d.id = p.device
GROUP BY d.id
ORDER BY d.device_id
