SELECT name, role, digest FROM api_token
WHERE digest = %s AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
