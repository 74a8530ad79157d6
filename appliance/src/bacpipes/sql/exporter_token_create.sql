INSERT INTO api_token (name, role, digest, expires_at)
VALUES (%(name)s, %(role)s, %(digest)s, now() + %(days)s::integer * interval '1 day')
