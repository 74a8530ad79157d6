UPDATE app_user SET role = %(role)s WHERE name = %(name)s RETURNING id
