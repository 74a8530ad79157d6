COPY public.reading_batch (site_id, base_time, poll_cycle, poll_duration, point_id, offset_ms, value, quality, reason)
FROM STDIN
