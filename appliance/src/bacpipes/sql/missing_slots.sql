-- Slots from each point's first (a cycle) up to its newest row that are neither a row nor in a recorded gap, by slot.
WITH slot AS (
    SELECT p.id, p.interval_seconds AS interval, cycle,
           to_timestamp(cycle * p.interval_seconds + (%(phases)s::jsonb ->> p.interval_seconds::text)::float8) AS at
    FROM unnest(%(points)s::integer[], %(firsts)s::bigint[]) AS s (id, first)
    JOIN point p USING (id)
    JOIN last_value l ON l.point_id = p.id AND l.interval_seconds = p.interval_seconds,
         generate_series(s.first, l.poll_cycle) AS cycle
    WHERE p.enabled
)
SELECT interval, cycle, array_agg(id ORDER BY id)
FROM slot
WHERE NOT EXISTS (SELECT FROM reading r WHERE r.point_id = slot.id AND r.poll_cycle = slot.cycle AND r.time >= %(since)s)
  AND NOT EXISTS (SELECT FROM gap g WHERE slot.id = ANY (g.point_ids) AND slot.at >= g.since AND slot.at < g.until)
GROUP BY interval, cycle
ORDER BY interval, array_agg(id ORDER BY id), cycle
