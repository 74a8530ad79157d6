-- Writes that stay safe: releases that fall due, the site's stop, the audit as a hash chain.

ALTER TABLE write_commands ADD COLUMN release_after double precision
    CHECK (release_after BETWEEN 1 AND 2678400);     -- seconds after the write

-- What is to be given back, and when. Noted before the write's first packet, gone when it is done or superseded.
CREATE TABLE due_release (
    point_id         integer NOT NULL REFERENCES point,
    slot             integer NOT NULL CHECK (slot BETWEEN 0 AND 16),  -- 0: an object without a priority array
    job_id           text    NOT NULL,               -- the write whose value goes
    value            double precision NOT NULL,      -- released only while the slot holds this, or previous
    previous         double precision,
    restore          double precision,               -- slot 0: what was there before us
    due_at           timestamptz NOT NULL,
    cause            text    NOT NULL DEFAULT 'releaseAfter' CHECK (cause IN ('releaseAfter', 'stop', 'source-lost')),
    PRIMARY KEY (point_id, slot, job_id)
);

-- One row: is the site stopped? While it is, nothing is written, and all that we hold is released.
CREATE TABLE site_stop (
    id               boolean PRIMARY KEY DEFAULT true CHECK (id),
    stopped          boolean NOT NULL DEFAULT false,
    since            timestamptz NOT NULL DEFAULT now(),
    actor            text NOT NULL DEFAULT '',
    reason           text
);
INSERT INTO site_stop DEFAULT VALUES;
CREATE TRIGGER tell AFTER UPDATE ON site_stop FOR EACH STATEMENT EXECUTE FUNCTION tell();

-- Whoever changes it, on whatever way, stands in the audit.
CREATE FUNCTION audit_site_stop() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO public.audit (actor, action, subject, detail)
    VALUES (coalesce(nullif(NEW.actor, ''), session_user), CASE WHEN NEW.stopped THEN 'stop.set' ELSE 'stop.lifted' END,
            'site', jsonb_strip_nulls(jsonb_build_object('reason', NEW.reason)));
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE ON site_stop FOR EACH ROW WHEN (OLD.stopped <> NEW.stopped)
    EXECUTE FUNCTION audit_site_stop();

-- The audit is a chain: each row's hash covers the hash before it, so that a row that was changed, taken out or put in
-- shows. The head stands by itself: it shows a tail that was cut off, and can be noted elsewhere.
ALTER TABLE audit ADD COLUMN hash bytea;

CREATE TABLE audit_head (
    single           boolean PRIMARY KEY DEFAULT true CHECK (single),
    id               bigint      NOT NULL,           -- of the newest row
    hash             bytea       NOT NULL,           -- SHA-256
    at               timestamptz NOT NULL
);
INSERT INTO audit_head (id, hash, at) VALUES (0, sha256(''), now());

-- SHA-256 of the hash before and the row as JSON; sql/audit_verify.sql holds the same expression, on purpose: who
-- changes this function does not change the check.
CREATE FUNCTION audit_hash(before bytea, entry audit) RETURNS bytea LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT sha256(before || convert_to(jsonb_build_array(
        entry.id, to_char(entry.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), entry.actor, entry.action,
        entry.subject, entry.detail)::text, 'UTF8'))
$$;

-- One after the other: the head's row is locked until the transaction ends.
CREATE FUNCTION audit_chain() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    head public.audit_head;
BEGIN
    SELECT * INTO STRICT head FROM public.audit_head FOR UPDATE;
    NEW.id := head.id + 1;
    NEW.at := clock_timestamp();
    NEW.hash := public.audit_hash(head.hash, NEW);
    UPDATE public.audit_head SET id = NEW.id, hash = NEW.hash, at = NEW.at;
    RETURN NEW;
END $$;

-- What was written before there was a chain is taken into it as it stands.
ALTER TABLE audit DISABLE TRIGGER audit_is_append_only;
DO $$
DECLARE
    entry audit;
    link  bytea := sha256('');
BEGIN
    FOR entry IN SELECT * FROM audit ORDER BY id LOOP
        link := audit_hash(link, entry);
        UPDATE audit SET hash = link WHERE id = entry.id;
        UPDATE audit_head SET id = entry.id, hash = link, at = entry.at;
    END LOOP;
END $$;
ALTER TABLE audit ENABLE TRIGGER audit_is_append_only;
ALTER TABLE audit ALTER COLUMN hash SET NOT NULL;
CREATE TRIGGER audit_chain BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_chain();

-- Against short-cycling. NULL: the site's default (BACPIPES_WRITE_…).
ALTER TABLE point
    ADD COLUMN writes_per_minute integer CHECK (writes_per_minute >= 0),         -- 0: no limit
    ADD COLUMN min_on_seconds    integer CHECK (min_on_seconds BETWEEN 0 AND 86400),
    ADD COLUMN min_off_seconds   integer CHECK (min_off_seconds BETWEEN 0 AND 86400);

-- When we wrote to a point within the last minute, and to what and when a binary one was switched by us.
CREATE TABLE write_pace (
    point_id         integer PRIMARY KEY REFERENCES point,
    recent           timestamptz[] NOT NULL DEFAULT '{}',
    value            double precision,
    since            timestamptz
);

-- Sources of commands that send a heartbeat. What one holds is released once it is lost.
CREATE TABLE source_contact (
    source           text PRIMARY KEY,
    seen_at          timestamptz NOT NULL DEFAULT now(),  -- written now and then, not at each heartbeat
    lost_at          timestamptz
);
