-- The heads of the sites' audit chains as they came, each with what it contradicts. Append-only: who rewrites a site's
-- audit can't rewrite what central noted of it.
CREATE TABLE site_audit (
    site_id          text        NOT NULL,
    id               bigint      NOT NULL,           -- of the site's newest audit record
    hash             bytea       NOT NULL,           -- SHA-256
    before_id        bigint,                         -- the record of the head that central had before, …
    before_hash      bytea,                          -- … and its hash at the site now; NULL: it is gone
    at               timestamptz,                    -- of the record
    received_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    contradiction    text                            -- NULL: it fits what was known
);
CREATE INDEX site_audit_newest ON site_audit (site_id, received_at DESC);
CREATE INDEX site_audit_record ON site_audit (site_id, id);

-- Contradictions that somebody has looked into, as after a restored backup.
CREATE TABLE site_audit_accepted (
    site_id          text        NOT NULL,
    at               timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor            text        NOT NULL,
    reason           text        NOT NULL CHECK (reason <> '')
);

CREATE TRIGGER is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON site_audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON site_audit_accepted
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
