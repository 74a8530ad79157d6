-- About to write: what we held there before stays ours until a read-back has settled it.
INSERT INTO held_slot AS h (point_id, priority, value, job_id) VALUES (%s, %s, %s, %s)
ON CONFLICT (point_id, priority) DO UPDATE
SET previous = h.value, value = excluded.value, settled = false, job_id = excluded.job_id, written_at = now()
