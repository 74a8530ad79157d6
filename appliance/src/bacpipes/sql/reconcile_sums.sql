-- The site's side of the comparison; central's is its function hour_sums.
SELECT date_bin('1 hour', time, '2000-01-01 00:00:00+00'), count(*),
       sum(reading_checksum(point_id, time, value, quality))
FROM reading WHERE time >= %(since)s AND time < %(until)s GROUP BY 1
