-- What the way to central needs at the site.

-- A follower that is not active holds nothing back. The shipper becomes active when the worker has an address of central.
ALTER TABLE follower ADD COLUMN active boolean NOT NULL DEFAULT true;
INSERT INTO follower (name, active) VALUES ('shipper', false), ('shipper_results', false), ('shipper_gaps', false);

-- Commands that were pulled from central stand in the same book as all others.
ALTER TABLE write_claim DROP CONSTRAINT write_claim_origin_check;
ALTER TABLE write_claim ADD CONSTRAINT write_claim_origin_check CHECK (origin IN ('mqtt', 'sql', 'central'));

-- Devices and points as central gets them, and a digest by which it is seen that nothing has changed.
CREATE FUNCTION site_snapshot(of_site text, OUT digest text, OUT devices jsonb, OUT points jsonb)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH parts AS (
        SELECT (SELECT coalesce(jsonb_agg(jsonb_build_object(
                    'device_id', d.device_id, 'name', d.name, 'address', d.address, 'ip', d.ip, 'vendor', d.vendor,
                    'model', d.model) ORDER BY d.device_id), '[]')
                FROM public.device d WHERE d.site_id = of_site) AS devices,
               (SELECT coalesce(jsonb_agg(jsonb_build_object(
                    'id', p.id, 'device_id', d.device_id, 'object_type', p.object_type,
                    'object_instance', p.object_instance, 'name', p.name, 'dis', p.dis, 'units', p.units,
                    'equip', p.equip, 'equip_ref', p.equip_ref, 'haystack_name', p.haystack_name, 'topic', p.topic,
                    'interval_seconds', p.interval_seconds, 'enabled', p.enabled, 'writable', p.writable,
                    'minimum', p.minimum, 'maximum', p.maximum, 'states', p.states) ORDER BY p.id), '[]')
                FROM public.point p JOIN public.device d ON d.id = p.device WHERE d.site_id = of_site) AS points
    )
    SELECT md5(devices::text || points::text), devices, points FROM parts
$$;

-- For the replication lane: central gets each row of this table as it is inserted, and the table keeps the last only.
CREATE TABLE site_metadata (
    seq              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    site_id          text  NOT NULL,
    digest           text  NOT NULL,
    devices          jsonb NOT NULL,
    points           jsonb NOT NULL,
    logged_at        timestamptz NOT NULL DEFAULT now()
);
CREATE FUNCTION log_metadata(of_site text) RETURNS boolean LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'bacpipes') THEN
        RETURN false;
    END IF;
    INSERT INTO public.site_metadata (site_id, digest, devices, points)
    SELECT of_site, s.digest, s.devices, s.points FROM public.site_snapshot(of_site) AS s
    WHERE s.digest IS DISTINCT FROM (SELECT m.digest FROM public.site_metadata m ORDER BY m.seq DESC LIMIT 1);
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    DELETE FROM public.site_metadata WHERE seq < (SELECT max(seq) FROM public.site_metadata);
    RETURN true;
END $$;

-- What each run of `bacpipes reconcile` found; the worker shows the last as metrics.
CREATE TABLE reconciliation (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    since            timestamptz NOT NULL,
    until            timestamptz NOT NULL,
    finished_at      timestamptz NOT NULL DEFAULT now(),
    site_rows        bigint      NOT NULL,
    central_rows     bigint      NOT NULL,           -- before what was missing was sent
    missing_hours    integer     NOT NULL,           -- hours that differed before
    sent_rows        bigint      NOT NULL,
    differing_hours  integer     NOT NULL            -- hours that differ still
);
