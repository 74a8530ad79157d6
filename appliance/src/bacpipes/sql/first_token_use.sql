DELETE FROM first_user_token WHERE digest = %s AND expires_at > now() RETURNING id
