-- Those that have ended are cleared away on the way.
WITH ended AS (DELETE FROM app_session WHERE expires_at <= now())
INSERT INTO app_session (digest, user_id, expires_at, ip)
VALUES (%(digest)s, %(user)s, now() + %(hours)s * interval '1 hour', %(ip)s)
