SELECT device_id, address FROM device WHERE site_id = %(site)s
