INSERT INTO first_user_token (digest, expires_at) VALUES (%(digest)s, now() + %(hours)s * interval '1 hour')
ON CONFLICT (id) DO UPDATE SET digest = EXCLUDED.digest, expires_at = EXCLUDED.expires_at
