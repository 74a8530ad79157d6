-- What is held, what is overdue, and the stop.
WITH late AS (
    SELECT d.device_id || ' ' || p.object_type || ':' || p.object_instance AS object, p.haystack_name, r.slot, r.value,
           r.due_at, r.cause
    FROM due_release r JOIN point p ON p.id = r.point_id JOIN device d ON d.id = p.device
    WHERE r.due_at < now() - INTERVAL '5 s'
    ORDER BY r.due_at
), held AS (
    SELECT d.device_id || ' ' || p.object_type || ':' || p.object_instance AS object, p.haystack_name, h.priority,
           h.value, h.written_at
    FROM held_slot h JOIN point p ON p.id = h.point_id JOIN device d ON d.id = p.device
    ORDER BY h.written_at
)
SELECT s.stopped, s.since, s.actor, s.reason,
       (SELECT count(*) FROM held) AS held, (SELECT coalesce(haystack_name, object) FROM held LIMIT 1) AS held_example,
       (SELECT priority FROM held LIMIT 1) AS held_priority, (SELECT value FROM held LIMIT 1) AS held_value,
       (SELECT written_at FROM held LIMIT 1) AS held_since,
       (SELECT count(*) FROM late) AS late, (SELECT coalesce(haystack_name, object) FROM late LIMIT 1) AS late_example,
       (SELECT due_at FROM late LIMIT 1) AS late_since
FROM site_stop s
