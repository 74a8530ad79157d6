-- Whether central knows the site as it should.
SELECT EXISTS (
    SELECT FROM site
    WHERE (id, name, time_zone, live_lane, complete_lane) = (:'id', :'name', :'time_zone', :'live'::boolean, :'complete')
);
