-- The slots of a point that hold what we wrote, with whose command it was.
SELECT h.priority, h.value, h.written_at, coalesce(c.created_by, k.command->>'source', 'MQTT') AS actor,
       coalesce(c.reason, k.command->>'reason', '') AS reason
FROM held_slot h
LEFT JOIN write_commands c USING (job_id)
LEFT JOIN write_claim k USING (job_id)
WHERE h.point_id = %(point)s
