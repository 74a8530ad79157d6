UPDATE app_user SET password = %(password)s, password_at = now() WHERE name = %(name)s RETURNING id
