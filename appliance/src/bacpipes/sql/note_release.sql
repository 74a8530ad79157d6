-- Before the write. Without a time (an object that has no priority array) it is given back at the stop only. Where an object without a priority array holds a value that is to be restored anyway, the value
-- that was there before that one is what is restored.
INSERT INTO due_release (point_id, slot, job_id, value, restore, due_at)
SELECT %(point)s, %(slot)s, %(job)s, %(value)s,
       CASE WHEN %(slot)s = 0 THEN
           coalesce((SELECT o.restore FROM due_release o WHERE o.point_id = %(point)s AND o.slot = 0
                     AND o.value = %(there)s::float8 ORDER BY o.due_at LIMIT 1), %(there)s::float8) END,
       CASE WHEN %(after)s::float8 IS NULL THEN 'infinity' ELSE clock_timestamp() + %(after)s::float8 * INTERVAL '1 s' END
ON CONFLICT DO NOTHING
