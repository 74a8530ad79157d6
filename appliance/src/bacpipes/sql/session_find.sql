SELECT u.id, u.name, u.role, s.digest FROM app_session s JOIN app_user u ON u.id = s.user_id
WHERE s.digest = %s AND s.expires_at > now() AND u.disabled_at IS NULL
