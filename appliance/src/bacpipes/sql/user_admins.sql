SELECT count(*) FROM app_user WHERE role = 'admin' AND disabled_at IS NULL AND name <> %s
