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

-- A command that names another site than its point's would never be read by anybody: it is refused as it is inserted.
CREATE FUNCTION refuse_foreign_command() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    own text := (SELECT d.site_id FROM public.point p JOIN public.device d ON d.id = p.device WHERE p.id = NEW.point_id);
BEGIN
    IF own IS DISTINCT FROM NEW.site_id AND own IS NOT NULL THEN  -- NULL: the foreign key says it
        RAISE EXCEPTION 'point % belongs to site %, not to site %', NEW.point_id, own, NEW.site_id
            USING HINT = 'Write site_id = ' || quote_literal(own) || ', or insert at central.',
                  ERRCODE = 'check_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER refuse_foreign_command BEFORE INSERT ON write_commands
    FOR EACH ROW EXECUTE FUNCTION refuse_foreign_command();

-- Those that wait since an earlier version end so.
INSERT INTO write_results (job_id, site_id, point_id, success, error_message, result)
SELECT c.job_id, d.site_id, c.point_id, false, 'Another site',
       json_build_object('jobId', c.job_id, 'success', false, 'error', 'Another site', 'siteId', d.site_id,
                         'validationErrors', json_build_array('site_id is ' || c.site_id), 'codes', json_build_array('site-foreign'))
FROM write_commands c JOIN point p ON p.id = c.point_id JOIN device d ON d.id = p.device
WHERE c.site_id <> d.site_id AND NOT EXISTS (SELECT FROM write_results r WHERE r.job_id = c.job_id);
