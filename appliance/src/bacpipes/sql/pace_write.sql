-- One more write; where it switches the point, to what.
INSERT INTO write_pace AS w (point_id, recent, value, since)
VALUES (%(point)s, ARRAY[now()], %(value)s, CASE WHEN %(value)s::float8 IS NOT NULL THEN now() END)
ON CONFLICT (point_id) DO UPDATE
SET recent = ARRAY(SELECT at FROM unnest(w.recent) AS at WHERE at > now() - INTERVAL '1 minute' AND at <= now())
             || excluded.recent,
    value = coalesce(excluded.value, w.value), since = coalesce(excluded.since, w.since)
