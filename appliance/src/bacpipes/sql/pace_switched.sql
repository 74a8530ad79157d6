-- A release switched the point.
INSERT INTO write_pace AS w (point_id, value, since) VALUES (%s, %s, now())
ON CONFLICT (point_id) DO UPDATE SET value = excluded.value, since = excluded.since
