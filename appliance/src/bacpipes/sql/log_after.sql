SELECT seq, base_time, point_id, offset_ms, value, quality, reason
FROM reading_batch WHERE seq > %s ORDER BY seq LIMIT %s
