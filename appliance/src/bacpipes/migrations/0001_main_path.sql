-- The site's schema. People query sensor_readings, write_commands and write_command_status; the rest is ours.
-- The history table `reading` is made by history_*.sql, by what the server can do; its view stands at the end there.

CREATE TABLE device (
    id               integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id          text    NOT NULL,
    device_id        integer NOT NULL CHECK (device_id BETWEEN 0 AND 4194302),
    name             text    NOT NULL DEFAULT '',
    address          text    NOT NULL,               -- 'host' or 'host:port', or 'network:mac' behind a router
    ip               text GENERATED ALWAYS AS (
        coalesce(substring(address FROM '^[0-9]+[.][0-9]+[.][0-9]+[.][0-9]+'), address)) STORED,
    vendor           text,
    model            text,
    max_apdu         integer,
    segmentation     text,
    read_multiple    boolean NOT NULL DEFAULT true,  -- false: it refused ReadPropertyMultiple
    updated_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (site_id, device_id)
);

CREATE TABLE point (
    id               integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    device           integer NOT NULL REFERENCES device,
    object_type      text    NOT NULL CHECK (object_type IN (
        'analog-input', 'analog-output', 'analog-value', 'binary-input', 'binary-output', 'binary-value',
        'multi-state-input', 'multi-state-output', 'multi-state-value')),
    object_instance  integer NOT NULL CHECK (object_instance BETWEEN 0 AND 4194302),
    name             text    NOT NULL DEFAULT '',    -- the object's name in its device
    dis              text    NOT NULL DEFAULT '',
    units            text    NOT NULL DEFAULT '',
    site             text    NOT NULL,
    equip            text,
    equip_ref        text,
    function         text,
    quantity         text,
    substance        text,
    location         text,
    qualifier        text,
    haystack_name    text GENERATED ALWAYS AS (
        site || '.' || equip || '.' || equip_ref || '.' || function || '.' || quantity || '.' || substance || '.'
        || location || '.' || qualifier) STORED,     -- NULL until all eight fields are given
    topic            text UNIQUE CHECK (topic !~ '[+#]'),  -- chosen once; never recomputed while its equipment stays
    interval_seconds integer NOT NULL DEFAULT 60 CHECK (interval_seconds BETWEEN 1 AND 86400),
    enabled          boolean NOT NULL DEFAULT true,
    writable         boolean NOT NULL DEFAULT false,
    minimum          double precision,
    maximum          double precision,
    states           integer CHECK (states >= 1),    -- multi-state objects: number of states
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (device, object_type, object_instance),
    CHECK (minimum <= maximum),
    CHECK (minimum NOT IN ('NaN', 'Infinity', '-Infinity')),
    CHECK (maximum NOT IN ('NaN', 'Infinity', '-Infinity')),
    CHECK (NOT enabled OR topic IS NOT NULL)
);
-- A point that is no longer polled keeps its name in history, and another object may take the name over.
CREATE UNIQUE INDEX point_haystack_name ON point (haystack_name) WHERE enabled;

-- The log. Everything that leaves the site follows seq; a batch that all followers have passed is deleted.
CREATE TABLE reading_batch (
    seq              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id          text        NOT NULL,
    base_time        timestamptz NOT NULL,
    interval_seconds integer     NOT NULL,
    poll_cycle       bigint      NOT NULL,           -- number of the interval since the epoch
    poll_duration    integer     NOT NULL,           -- ms
    point_id         integer[]   NOT NULL,
    offset_ms        integer[]   NOT NULL,           -- from base_time
    value            double precision[] NOT NULL,
    quality          smallint[]  NOT NULL,           -- 0 good, 1 uncertain, 2 bad
    reason           text[]                          -- NULL where every read is good
);

CREATE TABLE follower (
    name             text PRIMARY KEY,
    seq              bigint NOT NULL DEFAULT 0,      -- the last batch or result that the other side acknowledged
    updated_at       timestamptz NOT NULL DEFAULT now()
);
INSERT INTO follower (name) VALUES ('publisher'), ('results');

CREATE TABLE last_value (
    point_id         integer PRIMARY KEY REFERENCES point,
    time             timestamptz NOT NULL,           -- of the last read, good or not
    value            double precision,
    quality          smallint NOT NULL,
    reason           text,
    interval_seconds integer NOT NULL,
    poll_cycle       bigint  NOT NULL,               -- the slot that was read; a poll may outlast it
    good_time        timestamptz,                    -- of the last read that brought a good value
    good_value       double precision
) WITH (fillfactor = 60);                            -- room for HOT updates: every row changes at every poll

-- Scheduled reads that did not happen. until is exclusive.
CREATE TABLE gap (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id          text        NOT NULL,
    point_ids        integer[]   NOT NULL,
    since            timestamptz NOT NULL,
    until            timestamptz NOT NULL,
    reason           text        NOT NULL,
    recorded_at      timestamptz NOT NULL DEFAULT now(),
    CHECK (since < until)
);
CREATE INDEX gap_since ON gap (since);

-- The queue for writes. An INSERT is all that anyone needs; what became of it stands in write_command_status.
CREATE TABLE write_commands (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    job_id           text NOT NULL DEFAULT gen_random_uuid()::text UNIQUE CHECK (length(job_id) BETWEEN 1 AND 200),
    site_id          text NOT NULL,
    point_id         integer NOT NULL REFERENCES point,
    command_type     text NOT NULL DEFAULT 'write_value' CHECK (command_type IN ('write_value', 'release_priority')),
    value            double precision,
    priority         integer NOT NULL DEFAULT 8,
    created_at       timestamptz NOT NULL DEFAULT now(),
    expires_at       timestamptz,
    created_by       text NOT NULL DEFAULT session_user,
    reason           text,
    source_ip        text DEFAULT host(inet_client_addr()),
    CHECK (isfinite(created_at) AND created_at < '9000-01-01'),
    CHECK (isfinite(expires_at) AND expires_at < '9000-01-01')
);
CREATE INDEX write_commands_created ON write_commands (created_at);

-- A job is claimed here before anything is written: one jobId is executed at most once, however often it is delivered.
CREATE TABLE write_claim (
    job_id           text PRIMARY KEY,
    received_at      timestamptz NOT NULL DEFAULT now(),
    origin           text NOT NULL CHECK (origin IN ('mqtt', 'sql')),
    command          jsonb NOT NULL,
    executing_at     timestamptz                     -- set just before the first packet that could change something
);

CREATE TABLE write_results (
    seq              bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    job_id           text PRIMARY KEY,
    site_id          text NOT NULL,
    point_id         integer,
    success          boolean NOT NULL,
    executed_at      timestamptz,
    completed_at     timestamptz NOT NULL DEFAULT now(),
    error_message    text,
    result           json NOT NULL                   -- the payload, as it is published (json keeps its order)
);

-- The slots of priority arrays that hold a value which we wrote. Until a read-back has settled what a write came to,
-- both the value and the one before it are ours.
CREATE TABLE held_slot (
    point_id         integer NOT NULL REFERENCES point,
    priority         integer NOT NULL CHECK (priority BETWEEN 1 AND 16),
    value            double precision NOT NULL,
    previous         double precision,
    settled          boolean NOT NULL DEFAULT false,
    job_id           text NOT NULL,
    written_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (point_id, priority)
);

CREATE VIEW write_command_status AS
SELECT c.id, c.job_id, c.site_id, c.point_id, c.command_type, c.value, c.priority,
       CASE WHEN r.success THEN 'completed'
            WHEN r.job_id IS NOT NULL THEN 'failed'
            WHEN k.executing_at IS NOT NULL THEN 'executing'
            ELSE 'pending' END AS status,
       c.created_at, c.expires_at, r.executed_at, r.completed_at, r.error_message, c.created_by, c.reason, c.source_ip
FROM write_commands c
LEFT JOIN write_results r USING (job_id)
LEFT JOIN write_claim k USING (job_id);

-- Who did what, when. Append-only.
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

-- One row. Columns as the specification's MqttConfig; password and client_key are encrypted with the appliance's key.
CREATE TABLE mqtt_config (
    id                  boolean PRIMARY KEY DEFAULT true CHECK (id),
    broker              text    NOT NULL DEFAULT 'localhost',
    port                integer NOT NULL DEFAULT 1883 CHECK (port BETWEEN 1 AND 65535),
    client_id           text    NOT NULL DEFAULT 'bacpipes_worker',
    enabled             boolean NOT NULL DEFAULT false,
    username            text,
    password            text,
    tls_enabled         boolean NOT NULL DEFAULT false,
    tls_port            integer NOT NULL DEFAULT 8883 CHECK (tls_port BETWEEN 1 AND 65535),
    ca_certificate      text,
    client_certificate  text,
    client_key          text,
    protocol            text    NOT NULL DEFAULT '5' CHECK (protocol IN ('5', '3.1.1')),
    write_command_topic text    NOT NULL DEFAULT 'bacnet/write/command',
    write_result_topic  text    NOT NULL DEFAULT 'bacnet/write/result',
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now()
);
INSERT INTO mqtt_config DEFAULT VALUES;

-- Bearer tokens of the HTTP API. Only the SHA-256 of a 256-bit random token is kept.
CREATE TABLE api_token (
    id               integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name             text  NOT NULL UNIQUE,
    role             text  NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    digest           bytea NOT NULL UNIQUE,
    created_at       timestamptz NOT NULL DEFAULT now(),
    expires_at       timestamptz,
    revoked_at       timestamptz
);

-- Changes are told at once: LISTEN bacpipes; the payload names the table.
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('bacpipes', TG_TABLE_NAME);
    RETURN NULL;
END $$;
CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON device         FOR EACH STATEMENT EXECUTE FUNCTION tell();
CREATE TRIGGER tell AFTER INSERT OR UPDATE OR DELETE ON point          FOR EACH STATEMENT EXECUTE FUNCTION tell();
CREATE TRIGGER tell AFTER UPDATE                     ON mqtt_config    FOR EACH STATEMENT EXECUTE FUNCTION tell();
CREATE TRIGGER tell AFTER INSERT                     ON write_commands FOR EACH STATEMENT EXECUTE FUNCTION tell();
CREATE TRIGGER tell AFTER INSERT                     ON write_results  FOR EACH STATEMENT EXECUTE FUNCTION tell();
