INSERT INTO app_user (name, role, password) VALUES (%(name)s, %(role)s, %(password)s)
