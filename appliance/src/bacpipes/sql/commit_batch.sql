-- One poll: the log row, its rows in history, and the points' last values. A reading that is already in history
-- (a spooled batch that is drained again) is left as it is.
WITH entry AS (
    SELECT * FROM unnest(%(points)b::int4[], %(offsets)b::int4[], %(values)b::float8[], %(qualities)b::int2[],
                         %(reasons)b::text[]) AS e (point_id, offset_ms, value, quality, reason)
), log AS (
    INSERT INTO reading_batch (site_id, base_time, interval_seconds, poll_cycle, poll_duration,
                               point_id, offset_ms, value, quality, reason)
    VALUES (%(site)s, %(base)b, %(interval)b, %(cycle)b, %(duration)b,
            %(points)b::int4[], %(offsets)b::int4[], %(values)b::float8[], %(qualities)b::int2[],
            CASE WHEN %(all_good)s THEN NULL ELSE %(reasons)b::text[] END)
    RETURNING seq
), history AS (
    INSERT INTO reading (time, point_id, value, quality, reason, poll_duration, poll_cycle)
    SELECT %(base)b + offset_ms * INTERVAL '1 ms', point_id, value, quality, reason, %(duration)b, %(cycle)b FROM entry
    ON CONFLICT DO NOTHING
), latest AS (
    INSERT INTO last_value AS l (point_id, time, value, quality, reason, interval_seconds, poll_cycle, good_time, good_value)
    SELECT DISTINCT ON (point_id) point_id, at, value, quality, reason, %(interval)b, %(cycle)b,
           CASE WHEN quality = 0 THEN at END, CASE WHEN quality = 0 THEN value END
    FROM (SELECT *, %(base)b + offset_ms * INTERVAL '1 ms' AS at FROM entry) AS timed
    ORDER BY point_id, at DESC
    ON CONFLICT (point_id) DO UPDATE SET
        time = excluded.time, value = excluded.value, quality = excluded.quality, reason = excluded.reason,
        interval_seconds = excluded.interval_seconds, poll_cycle = excluded.poll_cycle,
        good_time = coalesce(excluded.good_time, l.good_time),
        good_value = CASE WHEN excluded.quality = 0 THEN excluded.value ELSE l.good_value END
    WHERE l.time <= excluded.time OR l.time > now() + INTERVAL '1 minute'  -- a clock that was ahead does not freeze it
)
SELECT seq FROM log
