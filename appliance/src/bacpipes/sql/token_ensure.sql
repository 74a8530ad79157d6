-- A token whose secret was made elsewhere. No row: nothing to change. A secret that was revoked never counts again.
INSERT INTO api_token AS t (name, role, digest) VALUES (%(name)s, %(role)s, %(digest)s)
ON CONFLICT (name) DO UPDATE SET role = excluded.role, digest = excluded.digest, revoked_at = NULL, expires_at = NULL,
    created_at = CASE WHEN t.digest = excluded.digest THEN t.created_at ELSE now() END
WHERE (t.role, t.digest) IS DISTINCT FROM (excluded.role, excluded.digest) OR t.expires_at IS NOT NULL
RETURNING xmax = 0
