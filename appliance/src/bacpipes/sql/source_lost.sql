-- A source is lost; an audit row the first time.
WITH lost AS (
    UPDATE source_contact SET lost_at = now() WHERE source = ANY (%(sources)s) AND lost_at IS NULL RETURNING source
)
INSERT INTO audit (actor, action, subject) SELECT 'worker', 'source.lost', source FROM lost
