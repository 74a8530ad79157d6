INSERT INTO published AS p (point_id, time, value, quality)
SELECT * FROM unnest(%(points)s::int4[], %(times)s::timestamptz[], %(values)s::float8[], %(qualities)s::int2[])
ON CONFLICT (point_id) DO UPDATE SET time = excluded.time, value = excluded.value, quality = excluded.quality
