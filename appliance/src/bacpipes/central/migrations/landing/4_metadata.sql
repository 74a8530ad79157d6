-- Devices and points of a site, all of them, in one row.
CREATE TABLE IF NOT EXISTS public.site_metadata (
    seq              bigint,
    site_id          text  NOT NULL,
    digest           text  NOT NULL,
    devices          jsonb NOT NULL,                 -- [{device_id, name, address, ip, vendor, model}]
    points           jsonb NOT NULL,                 -- [{id, device_id, object_type, object_instance, …}]
    logged_at        timestamptz
);

CREATE OR REPLACE FUNCTION landing.take_metadata() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    site_number integer;
    other       record;
BEGIN
    PERFORM landing.admit(NEW.site_id);
    site_number := landing.number_of(NEW.site_id);
    -- A site gives a number to one BACnet object for ever. Where that is not so its database was made anew, and old
    -- history would get new names.
    SELECT p.id, p.object_type, p.object_instance, n.object_type AS new_type, n.object_instance AS new_instance INTO other
    FROM public.point p
    JOIN jsonb_to_recordset(NEW.points) AS n (id integer, device_id integer, object_type text, object_instance integer)
      ON p.site_id = NEW.site_id AND n.id = p.id
    WHERE (n.device_id, n.object_type, n.object_instance) IS DISTINCT FROM (p.device_id, p.object_type, p.object_instance)
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'point % of site % is %:% at central and %:% at the site',
            other.id, NEW.site_id, other.object_type, other.object_instance, other.new_type, other.new_instance
            USING HINT = 'Was the site''s database made anew? Restore its backup, or give the site a new id.';
    END IF;
    INSERT INTO public.device AS d (site_id, device_id, name, address, ip, vendor, model)
    SELECT NEW.site_id, n.device_id, coalesce(n.name, ''), coalesce(n.address, ''), coalesce(n.ip, ''), n.vendor, n.model
    FROM jsonb_to_recordset(NEW.devices)
        AS n (device_id integer, name text, address text, ip text, vendor text, model text)
    ON CONFLICT (site_id, device_id) DO UPDATE SET name = excluded.name, address = excluded.address, ip = excluded.ip,
        vendor = excluded.vendor, model = excluded.model, updated_at = now();
    INSERT INTO public.point AS p (site_id, id, site, device_id, object_type, object_instance, name, dis, units, equip,
        equip_ref, haystack_name, topic, interval_seconds, enabled, writable, minimum, maximum, states)
    SELECT NEW.site_id, n.id, site_number, n.device_id, n.object_type, n.object_instance, coalesce(n.name, ''),
        coalesce(n.dis, ''), coalesce(n.units, ''), n.equip, n.equip_ref, n.haystack_name, n.topic,
        coalesce(n.interval_seconds, 60), coalesce(n.enabled, true), coalesce(n.writable, false),
        n.minimum, n.maximum, n.states
    FROM jsonb_to_recordset(NEW.points) AS n (id integer, device_id integer, object_type text, object_instance integer,
        name text, dis text, units text, equip text, equip_ref text, haystack_name text, topic text,
        interval_seconds integer, enabled boolean, writable boolean, minimum double precision,
        maximum double precision, states integer)
    ON CONFLICT (site_id, id) DO UPDATE SET name = excluded.name, dis = excluded.dis, units = excluded.units,
        equip = excluded.equip, equip_ref = excluded.equip_ref, haystack_name = excluded.haystack_name,
        topic = excluded.topic, interval_seconds = excluded.interval_seconds, enabled = excluded.enabled,
        writable = excluded.writable, minimum = excluded.minimum, maximum = excluded.maximum,
        states = excluded.states, updated_at = now();
    UPDATE public.site SET metadata_digest = NEW.digest, metadata_at = now() WHERE id = NEW.site_id;
    PERFORM public.release_quarantine(NEW.site_id);
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER take_metadata BEFORE INSERT ON public.site_metadata
    FOR EACH ROW EXECUTE FUNCTION landing.take_metadata();
ALTER TABLE public.site_metadata ENABLE ALWAYS TRIGGER take_metadata;
