-- The next batches of the log up to about so many readings: last number, batches, readings, newest base time.
SELECT max(seq), count(*), coalesce(sum(size), 0)::bigint, max(base_time)
FROM (
    SELECT seq, base_time, size, sum(size) OVER (ORDER BY seq) - size AS before
    FROM (SELECT seq, base_time, cardinality(point_id) AS size FROM reading_batch
          WHERE seq > %(after)s ORDER BY seq LIMIT 500) AS next
) AS counted
WHERE before < %(readings)s
