-- Central's schema. People query sensor_readings, write_commands and write_command_status; the rest is ours.
-- The history table `reading` is made by history.sql and history_*.sql, by what the server can do.

CREATE TABLE site (
    id               text PRIMARY KEY CHECK (id ~ '^[a-z0-9_-]{1,58}$' AND id <> 'bacnet'),  -- 'site_' || id is a role
    number           integer GENERATED ALWAYS AS IDENTITY UNIQUE,  -- what the narrow tables hold
    name             text NOT NULL DEFAULT '',
    time_zone        text NOT NULL DEFAULT 'UTC',
    complete_lane    text NOT NULL DEFAULT 'ship' CHECK (complete_lane IN ('none', 'ship', 'replication')),
    live_lane        boolean NOT NULL DEFAULT true,
    metadata_digest  text,                           -- of the last devices and points that came
    metadata_at      timestamptz,
    created_at       timestamptz NOT NULL DEFAULT now()
);

-- The last thing that came by each lane; renewed every few seconds at most, because every reading would be too often.
CREATE TABLE lane (
    site             integer NOT NULL REFERENCES site (number) ON DELETE CASCADE,
    name             text    NOT NULL CHECK (name IN ('live', 'complete')),
    last_time        timestamptz,                    -- of the newest reading that came by it
    seen_at          timestamptz NOT NULL DEFAULT '-infinity',
    PRIMARY KEY (site, name)
) WITH (fillfactor = 50);

CREATE FUNCTION add_lanes() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    INSERT INTO public.lane (site, name) VALUES (NEW.number, 'live'), (NEW.number, 'complete');
    RETURN NULL;
END $$;
CREATE TRIGGER add_lanes AFTER INSERT ON site FOR EACH ROW EXECUTE FUNCTION add_lanes();

-- Devices and points by their site's own numbers.
CREATE TABLE device (
    site_id          text    NOT NULL REFERENCES site,
    device_id        integer NOT NULL,               -- the BACnet instance
    name             text    NOT NULL DEFAULT '',
    address          text    NOT NULL DEFAULT '',
    ip               text    NOT NULL DEFAULT '',
    vendor           text,
    model            text,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site_id, device_id)
);

CREATE TABLE point (
    site_id          text    NOT NULL,
    id               integer NOT NULL,               -- the site's point.id
    site             integer NOT NULL REFERENCES site (number),
    device_id        integer NOT NULL,
    object_type      text    NOT NULL,
    object_instance  integer NOT NULL,
    name             text    NOT NULL DEFAULT '',
    dis              text    NOT NULL DEFAULT '',
    units            text    NOT NULL DEFAULT '',
    equip            text,
    equip_ref        text,
    haystack_name    text,
    topic            text,
    interval_seconds integer NOT NULL DEFAULT 60,
    enabled          boolean NOT NULL DEFAULT true,
    writable         boolean NOT NULL DEFAULT false,
    minimum          double precision,
    maximum          double precision,
    states           integer,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (site_id, id),
    UNIQUE (site, id),
    UNIQUE (site_id, device_id, object_type, object_instance),
    FOREIGN KEY (site_id, device_id) REFERENCES device
);
CREATE INDEX point_haystack_name ON point (haystack_name);

-- Scheduled reads that did not happen at the site. until is exclusive.
CREATE TABLE gap (
    site_id          text        NOT NULL REFERENCES site,
    point_ids        integer[]   NOT NULL,
    since            timestamptz NOT NULL,
    until            timestamptz NOT NULL,
    reason           text        NOT NULL,
    recorded_at      timestamptz NOT NULL DEFAULT now(),
    key              text        NOT NULL,           -- a digest of point_ids, which may be too long for an index
    UNIQUE (site_id, since, until, key)
);

-- What came and could not become a reading: by rule, with a sample and a count. Rows are not unique by design: who
-- finds a row locked by another adds one, so that nobody waits for, and nobody deadlocks with, another's counting.
CREATE TABLE quarantine (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id          text        NOT NULL,           -- as the topic or the row has it; may be unknown
    rule             text        NOT NULL,           -- docs/central.md lists them
    subject          text        NOT NULL,           -- topic, or point
    sample           text,                           -- the last payload, its beginning
    count            bigint      NOT NULL DEFAULT 1,
    first_at         timestamptz NOT NULL DEFAULT now(),
    last_at          timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
CREATE INDEX quarantine_key ON quarantine (site_id, rule, subject);

-- Readings of the live lane whose point central does not know yet; they become readings when it does.
CREATE TABLE parked (
    site             integer     NOT NULL REFERENCES site (number) ON DELETE CASCADE,
    device_id        integer     NOT NULL,
    object_type      text        NOT NULL,
    object_instance  integer     NOT NULL,
    time             timestamptz NOT NULL,
    value            double precision,
    quality          smallint    NOT NULL,
    reason           text,
    PRIMARY KEY (site, device_id, object_type, object_instance, time)
);

-- The queue for writes. An INSERT is all that anyone needs; what became of it stands in write_command_status.
CREATE TABLE write_commands (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id           text NOT NULL DEFAULT gen_random_uuid()::text UNIQUE CHECK (length(job_id) BETWEEN 1 AND 200),
    site_id          text NOT NULL REFERENCES site,
    point_id         integer NOT NULL,
    command_type     text NOT NULL DEFAULT 'write_value' CHECK (command_type IN ('write_value', 'release_priority')),
    value            double precision,
    priority         integer NOT NULL DEFAULT 8,
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at       timestamptz,
    created_by       text NOT NULL DEFAULT session_user,
    reason           text,
    source_ip        text DEFAULT host(inet_client_addr()),
    release_after    double precision CHECK (release_after BETWEEN 1 AND 2678400),  -- seconds after the write
    FOREIGN KEY (site_id, point_id) REFERENCES point (site_id, id),
    CHECK (isfinite(created_at) AND created_at < '9000-01-01'),
    CHECK (isfinite(expires_at) AND expires_at < '9000-01-01')
);
CREATE INDEX write_commands_site ON write_commands (site_id, created_at);

CREATE TABLE write_results (
    seq              bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    job_id           text NOT NULL,
    site_id          text NOT NULL REFERENCES site,
    point_id         integer,
    success          boolean NOT NULL,
    executed_at      timestamptz,
    completed_at     timestamptz NOT NULL DEFAULT now(),
    error_message    text,
    result           json NOT NULL,                  -- the payload, as it is published
    received_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, site_id)                    -- a site can't take another's jobId away by answering it first
);

-- How long a command without an expiry counts; landing/1_common.sql sets it as the settings say.
CREATE FUNCTION command_ttl() RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT interval '300 s' $$;

CREATE VIEW write_command_status AS
SELECT c.id, c.job_id, c.site_id, c.point_id, c.command_type, c.value, c.priority,
       CASE WHEN r.success THEN 'completed'
            WHEN r.job_id IS NOT NULL THEN 'failed'
            WHEN coalesce(c.expires_at, c.created_at + command_ttl()) < now() THEN 'expired'
            ELSE 'pending' END AS status,
       c.created_at, c.expires_at, r.executed_at, r.completed_at, r.error_message, c.created_by, c.reason, c.source_ip
FROM write_commands c
LEFT JOIN write_results r USING (job_id, site_id);

-- A site's own commands that have no result and are not too old, as payloads. Row-level security shows it its own only.
CREATE VIEW site_commands WITH (security_invoker = true) AS
SELECT c.site_id, c.id, c.created_at, jsonb_build_object(
    'jobId', c.job_id, 'deviceId', p.device_id, 'objectType', p.object_type, 'objectInstance', p.object_instance,
    'value', CASE WHEN c.value IN ('NaN', 'Infinity', '-Infinity') THEN to_jsonb(c.value::text) ELSE to_jsonb(c.value) END,
    'priority', c.priority, 'release', c.command_type = 'release_priority',
    'timestamp', to_char(c.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
    'expiresAt', to_char(c.expires_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"'),
    'releaseAfter', CASE WHEN c.command_type = 'write_value' THEN c.release_after END,
    'source', left(nullif(c.created_by, ''), 500), 'reason', left(nullif(c.reason, ''), 500),
    'siteId', c.site_id) AS payload
FROM write_commands c
JOIN point p ON p.site_id = c.site_id AND p.id = c.point_id
WHERE coalesce(c.expires_at, c.created_at + command_ttl()) > now()
  AND NOT EXISTS (SELECT FROM write_results r WHERE r.job_id = c.job_id AND r.site_id = c.site_id);

-- What each run of `bacpipes reconcile` found.
CREATE TABLE reconciliation (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id          text        NOT NULL REFERENCES site,
    since            timestamptz NOT NULL,
    until            timestamptz NOT NULL,
    finished_at      timestamptz NOT NULL DEFAULT now(),
    site_rows        bigint      NOT NULL,
    central_rows     bigint      NOT NULL,           -- before what was missing was sent
    missing_hours    integer     NOT NULL,           -- hours that differed before
    sent_rows        bigint      NOT NULL,
    differing_hours  integer     NOT NULL            -- hours that differ still
);
CREATE INDEX reconciliation_site ON reconciliation (site_id, finished_at DESC);

CREATE TABLE audit (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at               timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor            text  NOT NULL,
    action           text  NOT NULL,
    subject          text  NOT NULL DEFAULT '',
    detail           jsonb NOT NULL DEFAULT '{}'
);
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME;
END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Bearer tokens of the HTTP API, as at a site.
CREATE TABLE api_token (
    id               integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name             text  NOT NULL UNIQUE,
    role             text  NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    digest           bytea NOT NULL UNIQUE,
    created_at       timestamptz NOT NULL DEFAULT now(),
    expires_at       timestamptz,
    revoked_at       timestamptz
);

-- News: LISTEN bacpipes tells the table; LISTEN site_<id> tells a site that it has a command.
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM pg_notify('bacpipes', TG_TABLE_NAME);
    IF TG_TABLE_NAME = 'write_commands' THEN
        PERFORM pg_notify('site_' || NEW.site_id, '');
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT ON write_commands FOR EACH ROW EXECUTE FUNCTION tell();
CREATE TRIGGER tell AFTER INSERT ON write_results  FOR EACH ROW EXECUTE FUNCTION tell();
ALTER TABLE write_results ENABLE ALWAYS TRIGGER tell;  -- those that replication brings too

-- A site sees its own rows and no others. Everybody else's rights stand in grants.sql.
CREATE FUNCTION is_mine(site_id text) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT NOT pg_catalog.starts_with(current_user, 'site_') OR current_user = 'site_' || site_id
$$;
ALTER TABLE site           ENABLE ROW LEVEL SECURITY;
ALTER TABLE device         ENABLE ROW LEVEL SECURITY;
ALTER TABLE point          ENABLE ROW LEVEL SECURITY;
ALTER TABLE write_commands ENABLE ROW LEVEL SECURITY;
ALTER TABLE write_results  ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON site           USING (is_mine(id));
CREATE POLICY mine ON device         USING (is_mine(site_id));
CREATE POLICY mine ON point          USING (is_mine(site_id));
CREATE POLICY mine ON write_commands USING (is_mine(site_id));
CREATE POLICY mine ON write_results  USING (is_mine(site_id));
