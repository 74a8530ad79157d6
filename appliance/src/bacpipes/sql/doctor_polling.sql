SELECT count(*) AS enabled, min(p.interval_seconds) AS shortest, max(l.time) AS newest,
       count(*) FILTER (WHERE l.time > now() - 3 * p.interval_seconds * INTERVAL '1 s') AS fresh,
       count(*) FILTER (WHERE l.time > now() - 3 * p.interval_seconds * INTERVAL '1 s' AND l.quality = 0) AS good
FROM point p LEFT JOIN last_value l ON l.point_id = p.id
WHERE p.enabled
