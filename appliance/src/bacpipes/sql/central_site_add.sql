-- The site's row; what it had is kept where nothing else is said.
INSERT INTO site AS s (id, name, time_zone, complete_lane, live_lane)
VALUES (%(site)s, coalesce(%(name)s, ''), coalesce(%(zone)s, 'UTC'), coalesce(%(lane)s, 'ship'), coalesce(%(live)s, true))
ON CONFLICT (id) DO UPDATE SET name = coalesce(%(name)s, s.name), time_zone = coalesce(%(zone)s, s.time_zone),
    complete_lane = coalesce(%(lane)s, s.complete_lane), live_lane = coalesce(%(live)s, s.live_lane)
WHERE (s.name, s.time_zone, s.complete_lane, s.live_lane) IS DISTINCT FROM
      (coalesce(%(name)s, s.name), coalesce(%(zone)s, s.time_zone), coalesce(%(lane)s, s.complete_lane),
       coalesce(%(live)s, s.live_lane))
RETURNING 1
