INSERT INTO gap (site_id, point_ids, since, until, reason) VALUES (%s, %s, %s, %s, %s)
