-- Prints the site's id where it had a lane.
UPDATE site SET live_lane = false, complete_lane = 'none'
WHERE id = :'id' AND (live_lane OR complete_lane <> 'none') RETURNING id;
