SELECT id, updated_at FROM point WHERE id = ANY(%(ids)s)
