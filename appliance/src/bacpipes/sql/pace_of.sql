-- The point's limits, its writes within the last minute, and its last switching: to what, and how many seconds ago.
SELECT coalesce(p.writes_per_minute, %(per_minute)s)::integer, coalesce(p.min_on_seconds, %(min_on)s)::float8,
       coalesce(p.min_off_seconds, %(min_off)s)::float8,
       (SELECT count(*) FROM unnest(w.recent) AS at WHERE at > now() - INTERVAL '1 minute' AND at <= now()),
       w.value, extract(epoch FROM now() - w.since)::float8
FROM point p LEFT JOIN write_pace w ON w.point_id = p.id
WHERE p.id = %(point)s
