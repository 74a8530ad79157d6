SELECT site_id, payload FROM site_commands ORDER BY created_at, id LIMIT 1000
