-- The live lane: Telegraf's COPY. value is the MQTT payload in base64, so that no payload can break Telegraf's parser.
CREATE TABLE IF NOT EXISTS landing.live ("time" timestamptz, topic text, value text);

-- The payload as text, for the quarantine; NULL where it is none.
CREATE OR REPLACE FUNCTION landing.text_of(value text) RETURNS text LANGUAGE plpgsql IMMUTABLE
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    RETURN convert_from(decode(text_of.value, 'base64'), 'UTF8');
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END $$;

-- One function with simple expressions and two statements: this runs for every message.
CREATE OR REPLACE FUNCTION landing.take_message() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    prefix      text := split_part(NEW.topic, '/', 1);
    message     jsonb;
    broken      text;
    device      text;
    kind        text;
    instance    text;
    said        text;
    grade       smallint;
    value       text;
    value_type  text;
    at          timestamptz;
    site_number integer;
    known       integer;
    seen        timestamptz;
BEGIN
    BEGIN  -- nothing is written in this block, so its subtransaction costs next to nothing
        message := convert_from(decode(NEW.value, 'base64'), 'UTF8')::jsonb;
    EXCEPTION WHEN OTHERS THEN
        message := NULL;
    END;
    IF message IS NULL OR jsonb_typeof(message) <> 'object' THEN
        broken := 'not-json';
    ELSE
        device := message ->> 'deviceId';
        instance := message ->> 'objectInstance';
        kind := message ->> 'objectType';
        said := message ->> 'timestamp';
        value := message ->> 'value';
        value_type := jsonb_typeof(message -> 'value');
        grade := CASE message ->> 'quality' WHEN 'good' THEN 0 WHEN 'bad' THEN 2 WHEN 'uncertain' THEN 1 END;
        IF NEW.topic IS NULL OR NEW.topic !~ '^[^/]+/.+/presentValue$' THEN
            broken := 'foreign-topic';
        ELSIF message ? 'siteId' AND message ->> 'siteId' <> prefix THEN
            broken := 'foreign-prefix';
        ELSIF device !~ '^[0-9]{1,7}$' OR instance !~ '^[0-9]{1,7}$' OR length(kind) > 100
              OR device IS NULL OR instance IS NULL OR jsonb_typeof(message -> 'objectType') IS DISTINCT FROM 'string' THEN
            broken := 'no-identity';
        ELSIF said IS NULL OR NOT pg_input_is_valid(said, 'timestamptz') OR said !~
              '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{5,8}([.][0-9]{1,9})?(Z|[+-][0-9]{2}:?[0-9]{2})$' THEN
            broken := 'no-time';
        ELSIF grade IS NULL AND message ->> 'quality' IS NOT NULL THEN
            broken := 'no-quality';
        ELSIF value_type = 'number' THEN
            broken := CASE WHEN NOT pg_input_is_valid(value, 'float8') THEN 'not-a-float' END;
        ELSIF value_type IS NULL OR value_type = 'null' THEN
            broken := CASE WHEN grade IS DISTINCT FROM 2 OR value_type IS NULL THEN 'null-value' END;
        ELSE
            broken := 'text-value';
        END IF;
    END IF;
    IF broken IS NULL THEN
        at := date_trunc('milliseconds', said::timestamptz);
        broken := CASE WHEN at > landing.latest() THEN 'future' WHEN at < landing.oldest() THEN 'too-old' END;
    END IF;
    SELECT s.number, l.seen_at, p.id INTO site_number, seen, known
    FROM public.site s
    JOIN public.lane l ON l.site = s.number AND l.name = 'live'
    LEFT JOIN public.point p ON broken IS NULL AND p.site_id = s.id AND p.object_type = kind
        AND p.device_id = CASE WHEN broken IS NULL THEN device::integer END
        AND p.object_instance = CASE WHEN broken IS NULL THEN instance::integer END
    WHERE s.id = prefix;
    IF known IS NOT NULL THEN
        INSERT INTO public.reading (time, site, point_id, value, quality, reason)
        VALUES (at, site_number, known, value::double precision, coalesce(grade, 0), left(message ->> 'reason', 500))
        ON CONFLICT DO NOTHING;
        IF seen NOT BETWEEN now() - interval '2 seconds' AND now() + interval '2 seconds' THEN
            PERFORM landing.seen(site_number, 'live', at);
        END IF;
        IF at < now() - interval '2 hours' THEN
            PERFORM landing.mark_late(site_number, at, at);
        END IF;
    ELSIF site_number IS NULL THEN
        PERFORM landing.quarantine('', 'unknown-site', coalesce(NEW.topic, ''), landing.text_of(NEW.value));
    ELSIF broken IS NOT NULL THEN
        PERFORM landing.quarantine(prefix, broken, NEW.topic, landing.text_of(NEW.value));
    ELSE
        PERFORM landing.park(prefix, site_number, message, at);
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER take_message BEFORE INSERT ON landing.live
    FOR EACH ROW EXECUTE FUNCTION landing.take_message();
ALTER TABLE landing.live ENABLE ALWAYS TRIGGER take_message;

-- A reading of a point that is not known yet waits for its metadata; 200,000 for a site at most.
CREATE OR REPLACE FUNCTION landing.park(prefix text, site_number integer, message jsonb, at timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    room boolean;
BEGIN
    SELECT coalesce(sum(q.count), 0) < 200000 INTO room FROM public.quarantine q
    WHERE q.site_id = prefix AND q.rule = 'unknown-point';
    IF room THEN
        INSERT INTO public.parked (site, device_id, object_type, object_instance, time, value, quality, reason)
        VALUES (site_number, (message ->> 'deviceId')::integer, left(message ->> 'objectType', 100),
                (message ->> 'objectInstance')::integer, at, (message ->> 'value')::double precision,
                array_position(ARRAY['good', 'uncertain', 'bad'], coalesce(message ->> 'quality', 'good')) - 1,
                left(message ->> 'reason', 500))
        ON CONFLICT DO NOTHING;
    END IF;
    PERFORM landing.quarantine(prefix, CASE WHEN room THEN 'unknown-point' ELSE 'unknown-point-no-room' END,
        format('device=%s, %s:%s', message ->> 'deviceId', left(message ->> 'objectType', 100), message ->> 'objectInstance'),
        message::text);
END $$;

-- Readings that waited for their point become readings; returns how many were taken out of quarantine.
CREATE OR REPLACE FUNCTION public.release_quarantine(of_site text) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    site_number integer := landing.number_of(of_site);
    taken bigint;
BEGIN
    PERFORM landing.admit(of_site);
    WITH freed AS (
        DELETE FROM public.parked k USING public.point p
        WHERE k.site = site_number AND p.site = k.site AND p.device_id = k.device_id
          AND p.object_type = k.object_type AND p.object_instance = k.object_instance
        RETURNING k.time, k.site, p.id, k.value, k.quality, k.reason
    ), stored AS (
        INSERT INTO public.reading (time, site, point_id, value, quality, reason)
        SELECT * FROM freed ON CONFLICT DO NOTHING
    ), late AS (
        SELECT landing.mark_late(site_number, min(time), max(time)) FROM freed
    )
    SELECT count(*) INTO taken FROM freed, (SELECT count(*) FROM late) AS marked;
    DELETE FROM public.quarantine q USING public.point p
    WHERE q.site_id = of_site AND q.rule IN ('unknown-point', 'unknown-point-no-room') AND p.site_id = of_site
      AND q.subject = format('device=%s, %s:%s', p.device_id, p.object_type, p.object_instance);
    RETURN taken;
END $$;
