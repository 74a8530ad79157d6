-- Rates over the last five minutes; a point is stale after three missed intervals.
WITH recent AS (
    SELECT count(*) AS reads, count(*) FILTER (WHERE quality < 2) AS good
    FROM reading WHERE time > now() - interval '5 minutes' AND time <= now()
), mine AS MATERIALIZED (
    SELECT p.id, p.enabled, coalesce(p.haystack_name, d.device_id || ' ' || p.object_type || ':' || p.object_instance)
           AS name, v.time, v.quality,
           CASE WHEN p.cov THEN greatest(p.interval_seconds, %(cov_poll)s) ELSE p.interval_seconds END AS interval_seconds
    FROM point p JOIN device d ON d.id = p.device LEFT JOIN last_value v ON v.point_id = p.id
    WHERE d.site_id = %(site)s
), stale AS (
    SELECT name, time FROM mine
    WHERE enabled AND (time IS NULL OR time < now() - 3 * interval_seconds * interval '1 s' - interval '10 s')
    ORDER BY time NULLS FIRST
)
SELECT (SELECT count(*) FROM device WHERE site_id = %(site)s) AS devices,
       (SELECT count(*) FROM mine) AS points,
       (SELECT count(*) FROM mine WHERE enabled) AS enabled,
       (SELECT max(time) FROM mine) AS newest,
       (SELECT reads FROM recent) AS reads, (SELECT good FROM recent) AS good,
       (SELECT count(*) FROM stale) AS stale, (SELECT name FROM stale LIMIT 1) AS stale_example,
       pg_database_size(current_database()) AS database_bytes,
       current_setting('server_version') AS server
