SELECT u.name, u.role, u.created_at, u.password_at, u.disabled_at,
       (SELECT max(s.created_at) FROM app_session s WHERE s.user_id = u.id)
FROM app_user u ORDER BY u.name
