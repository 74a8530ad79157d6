-- One row where the token exists: was it revoked by this very statement?
WITH ended AS (
    UPDATE api_token SET revoked_at = now() WHERE name = %(name)s AND revoked_at IS NULL RETURNING id
)
SELECT EXISTS (SELECT FROM ended) FROM api_token WHERE name = %(name)s
