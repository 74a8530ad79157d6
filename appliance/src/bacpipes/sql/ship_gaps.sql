SELECT id, site_id, point_ids, since, until, reason, recorded_at FROM gap WHERE id > %s ORDER BY id LIMIT 200
