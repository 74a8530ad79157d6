-- A source gave a sign of life; an audit row where it was new, or lost.
WITH before AS (
    SELECT lost_at FROM source_contact WHERE source = %(source)s
), seen AS (
    INSERT INTO source_contact AS s (source) VALUES (%(source)s)
    ON CONFLICT (source) DO UPDATE SET seen_at = now(), lost_at = NULL
)
INSERT INTO audit (actor, action, subject)
SELECT %(source)s, 'source.found', %(source)s WHERE NOT EXISTS (SELECT FROM before WHERE lost_at IS NULL)
