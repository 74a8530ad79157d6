WITH mine AS MATERIALIZED (
    SELECT p.id, p.enabled, p.writable, v.time, v.quality
    FROM point p JOIN device d ON d.id = p.device LEFT JOIN last_value v ON v.point_id = p.id
    WHERE d.site_id = %(site)s
)
SELECT (SELECT count(*) FROM device WHERE site_id = %(site)s) AS devices,
       count(*) AS points,
       count(*) FILTER (WHERE enabled) AS "enabledPoints",
       count(*) FILTER (WHERE writable) AS "writablePoints",
       count(*) FILTER (WHERE enabled AND quality = 2) AS "badPoints",
       count(*) FILTER (WHERE enabled AND time IS NULL) AS "unreadPoints",
       max(time) AS "lastReading",
       (SELECT count(*) FROM reading WHERE time > now() - interval '1 minute' AND time <= now())
           AS "readingsLastMinute",
       (SELECT count(*) FROM gap WHERE site_id = %(site)s AND until > now() - interval '24 hours') AS "gapsLast24Hours",
       CASE WHEN (SELECT relkind FROM pg_class WHERE oid = 'public.reading'::regclass) = 'p' THEN 'plain'
            WHEN to_regproc('public.history_maintain') IS NULL THEN 'timescaledb-community'
            ELSE 'timescaledb-apache' END AS engine
FROM mine
