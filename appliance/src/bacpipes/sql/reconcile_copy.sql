-- The readings of a span of time, as batches for central's landing table: one for each poll. Readings have whole
-- milliseconds, and offsets too: so has the base.
COPY (
    SELECT %(site)s::text, date_trunc('milliseconds', %(since)s::timestamptz), poll_cycle, poll_duration,
           array_agg(point_id ORDER BY time, point_id),
           array_agg((extract(epoch FROM time - date_trunc('milliseconds', %(since)s::timestamptz)) * 1000)::integer
                     ORDER BY time, point_id),
           array_agg(value ORDER BY time, point_id), array_agg(quality ORDER BY time, point_id),
           CASE WHEN count(reason) > 0 THEN array_agg(reason ORDER BY time, point_id) END
    FROM reading WHERE time >= %(since)s::timestamptz AND time < %(until)s::timestamptz
    GROUP BY poll_cycle, poll_duration
    ORDER BY min(time)
) TO STDOUT
