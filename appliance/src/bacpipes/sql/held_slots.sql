-- Every slot that holds what we wrote.
SELECT d.device_id, p.object_type || ':' || p.object_instance, h.priority, h.value
FROM held_slot h JOIN point p ON p.id = h.point_id JOIN device d ON d.id = p.device
ORDER BY h.written_at
