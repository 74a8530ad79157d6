-- The stop, and how many values are still to be given back.
SELECT s.stopped, s.since, s.actor, s.reason,
       (SELECT count(*) FROM (SELECT point_id, priority FROM held_slot
                              UNION SELECT point_id, slot FROM due_release) AS held)
FROM site_stop s
