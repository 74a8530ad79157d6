SELECT id, name, role, password FROM app_user WHERE name = %s AND disabled_at IS NULL
