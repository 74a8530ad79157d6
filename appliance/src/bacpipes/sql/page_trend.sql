-- One point in pieces of equal width: their mean, least and greatest, and how many reads were bad.
SELECT date_bin(%(width)s, time, %(start)s) AS bucket, avg(value) AS mean, min(value) AS low, max(value) AS high,
       count(*) FILTER (WHERE quality = 2) AS bad
FROM reading
WHERE point_id = %(point)s AND time >= %(start)s AND time <= %(end)s
  AND (value IS NULL OR value - value = 0)
GROUP BY bucket
ORDER BY bucket
