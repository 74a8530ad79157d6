-- What leaves the site is a matter of each point; and the audit's head goes to central, so that a chain that was made
-- anew shows there.

-- Which readings are published by MQTT. NULL: the site's default (BACPIPES_PUBLISH_…).
ALTER TABLE point
    ADD COLUMN publish           text CHECK (publish IN ('every', 'change')),
    ADD COLUMN deadband          double precision CHECK (deadband >= 0 AND deadband < 'Infinity'),  -- NULL: 0
    ADD COLUMN heartbeat_seconds integer CHECK (heartbeat_seconds BETWEEN 1 AND 86400);

-- The last published reading of each point that is published on change. It moves with the publisher's cursor, in one
-- transaction, so that what the policy selects is the same whenever the worker is started again.
CREATE TABLE published (
    point_id         integer PRIMARY KEY REFERENCES point,
    time             timestamptz NOT NULL,
    value            double precision,
    quality          smallint NOT NULL
) WITH (fillfactor = 60);

-- For the replication lane: central gets each head of the audit's chain as it is inserted here, with the hash that the
-- record of the head before has now; the table keeps the last only. `shipper` asks central which head it has instead.
CREATE TABLE site_audit (
    seq              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id          text   NOT NULL,
    id               bigint NOT NULL,
    hash             bytea  NOT NULL,
    before_id        bigint,
    before_hash      bytea,                          -- NULL: that record is gone
    at               timestamptz NOT NULL
);
CREATE FUNCTION log_audit_head() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO public.site_audit (site_id, id, hash, before_id, before_hash, at)
    SELECT m.site_id, NEW.id, NEW.hash, b.id, (SELECT a.hash FROM public.audit a WHERE a.id = b.id), NEW.at
    FROM (SELECT site_id FROM public.site_metadata ORDER BY seq DESC LIMIT 1) AS m  -- none: nobody follows by replication
    LEFT JOIN (SELECT id FROM public.site_audit ORDER BY seq DESC LIMIT 1) AS b ON true;
    IF FOUND THEN
        DELETE FROM public.site_audit WHERE seq < (SELECT max(seq) FROM public.site_audit);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER log_audit_head AFTER UPDATE ON audit_head FOR EACH ROW EXECUTE FUNCTION log_audit_head();
