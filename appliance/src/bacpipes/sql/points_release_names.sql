-- The names of enabled points are unique at every moment: points that change theirs, or are disabled, let go of it
-- before any takes a new one.
UPDATE point p SET qualifier = NULL
FROM points_stage s
WHERE p.id = s.id
  AND (p.enabled AND NOT s.enabled
       OR (p.equip, p.equip_ref, p.function, p.quantity, p.substance, p.location, p.qualifier)
      IS DISTINCT FROM (s.equip, s.equip_ref, s.function, s.quantity, s.substance, s.location, s.qualifier))
