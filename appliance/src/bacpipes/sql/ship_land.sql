COPY public.reading_batch (seq, site_id, base_time, interval_seconds, poll_cycle, poll_duration, point_id, offset_ms,
                           value, quality, reason, value4) FROM STDIN
