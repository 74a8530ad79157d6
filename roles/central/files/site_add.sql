INSERT INTO site (id, name, time_zone, live_lane, complete_lane)
VALUES (:'id', :'name', :'time_zone', :'live'::boolean, :'complete')
ON CONFLICT (id) DO UPDATE SET name = excluded.name, time_zone = excluded.time_zone,
    live_lane = excluded.live_lane, complete_lane = excluded.complete_lane;
