UPDATE point SET enabled = false, updated_at = now() WHERE id = ANY(%(ids)s)
