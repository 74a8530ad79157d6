SELECT h.point_id, h.priority, h.value, h.previous, h.job_id, d.device_id, p.object_type, p.object_instance
FROM held_slot h JOIN point p ON p.id = h.point_id JOIN device d ON d.id = p.device
WHERE NOT h.settled
