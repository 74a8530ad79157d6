INSERT INTO held_slot (point_id, priority, value, job_id) VALUES (%s, %s, %s, %s)
ON CONFLICT (point_id, priority) DO UPDATE SET value = excluded.value, job_id = excluded.job_id, written_at = now()
