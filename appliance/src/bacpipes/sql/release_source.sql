-- What these sources hold is due now; repeated for as long as they are lost.
WITH theirs AS (
    SELECT job_id FROM write_claim WHERE command ->> 'source' = ANY (%(sources)s)
       AND job_id IN (SELECT job_id FROM held_slot UNION ALL SELECT job_id FROM due_release)
), held AS (
    INSERT INTO due_release AS r (point_id, slot, job_id, value, previous, due_at, cause)
    SELECT point_id, priority, job_id, value, previous, now(), 'source-lost' FROM held_slot JOIN theirs USING (job_id)
    ON CONFLICT (point_id, slot, job_id) DO UPDATE
    SET value = excluded.value, previous = excluded.previous, due_at = least(r.due_at, now()), cause = 'source-lost'
    WHERE r.cause = 'releaseAfter'
)
UPDATE due_release r SET due_at = least(r.due_at, now()), cause = 'source-lost'
FROM theirs WHERE r.job_id = theirs.job_id AND r.slot = 0 AND r.cause = 'releaseAfter'
