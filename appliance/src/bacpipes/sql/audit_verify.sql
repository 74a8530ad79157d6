-- How many rows, the newest with its hash, the head that was noted beside the table, and the first row whose hash is
-- not what it should be. The hash is computed here and not by the database's own function.
WITH chain AS (
    SELECT id, hash, sha256(coalesce(lag(hash) OVER (ORDER BY id), sha256('')) || convert_to(jsonb_build_array(
        id, to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), actor, action, subject, detail)::text, 'UTF8'))
        AS expected
    FROM audit
), counted AS (
    SELECT count(*) AS rows, coalesce(max(id), 0) AS last, min(id) FILTER (WHERE hash IS DISTINCT FROM expected) AS broken
    FROM chain
)
SELECT c.rows, c.last, coalesce((SELECT hash FROM audit WHERE id = c.last), sha256('')) AS hash,
       h.id AS head_id, h.hash AS head_hash, c.broken,
       (SELECT encode(hash, 'hex') FROM audit WHERE id = %(noted)s) AS noted
FROM counted c CROSS JOIN audit_head h
