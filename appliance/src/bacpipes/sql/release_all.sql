-- While the site is stopped: all that we hold is due now. Repeated until nothing is held any more.
WITH held AS (
    INSERT INTO due_release AS r (point_id, slot, job_id, value, previous, due_at, cause)
    SELECT point_id, priority, job_id, value, previous, now(), 'stop' FROM held_slot
    ON CONFLICT (point_id, slot, job_id) DO UPDATE
    SET value = excluded.value, previous = excluded.previous, due_at = least(r.due_at, now()), cause = 'stop'
    WHERE r.cause <> 'stop'
)
UPDATE due_release SET due_at = least(due_at, now()), cause = 'stop' WHERE slot = 0 AND cause <> 'stop'
