-- The landing tables: what the lanes bring is inserted here, a row trigger makes readings of it, and the tables stay
-- empty. `central migrate` runs this file every time. Every name is qualified: the apply worker of logical replication
-- has an empty search_path; and the triggers fire always, because that worker is a "replica". Nothing that a live
-- message holds may raise an error: Telegraf would lose the whole batch that it came in.

CREATE SCHEMA IF NOT EXISTS landing;

-- {skew} and {ttl} are settings.
CREATE OR REPLACE FUNCTION landing.latest() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT pg_catalog.now() + interval '{skew} seconds' $$;
CREATE OR REPLACE FUNCTION landing.oldest() RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT timestamptz '2000-01-01 00:00:00+00' $$;

CREATE OR REPLACE FUNCTION public.command_ttl() RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT interval '{ttl} seconds' $$;

-- Count what can't become a reading. Bounded: 1000 rows for a site and rule, after that all go on one row.
CREATE OR REPLACE FUNCTION landing.quarantine(site_id text, rule text, subject text, sample text, n bigint DEFAULT 1)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_id bigint;
    about    text := left(quarantine.subject, 300);
BEGIN
    SELECT q.id INTO found_id FROM public.quarantine q
    WHERE q.site_id = quarantine.site_id AND q.rule = quarantine.rule AND q.subject = about
    LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF found_id IS NULL AND (SELECT count(*) FROM (
            SELECT FROM public.quarantine q WHERE q.site_id = quarantine.site_id AND q.rule = quarantine.rule LIMIT 1000
        ) AS known) >= 1000 THEN
        about := '(others)';
        SELECT q.id INTO found_id FROM public.quarantine q
        WHERE q.site_id = quarantine.site_id AND q.rule = quarantine.rule AND q.subject = about
        LIMIT 1 FOR UPDATE SKIP LOCKED;
    END IF;
    IF found_id IS NULL THEN
        INSERT INTO public.quarantine (site_id, rule, subject, sample, count)
        VALUES (quarantine.site_id, quarantine.rule, about, left(quarantine.sample, 1000), n);
    ELSE
        UPDATE public.quarantine q SET count = q.count + n, last_at = now(), sample = left(quarantine.sample, 1000)
        WHERE q.id = found_id;
    END IF;
END $$;

-- A lane has brought something; who finds the row locked leaves it to the other.
CREATE OR REPLACE FUNCTION landing.seen(site_number integer, lane_name text, newest timestamptz) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE public.lane SET seen_at = clock_timestamp(), last_time = greatest(last_time, newest)
    WHERE ctid = (SELECT l.ctid FROM public.lane l WHERE l.site = site_number AND l.name = lane_name
                  FOR UPDATE SKIP LOCKED)
$$;

-- Who brings a row may bring it for this site: a site's own role, the subscription to that very site, or our own people.
CREATE OR REPLACE FUNCTION landing.admit(site_id text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('session_replication_role') = 'replica' THEN
        IF EXISTS (SELECT FROM pg_stat_subscription s
                   WHERE s.pid = pg_backend_pid() AND s.subname <> 'site_' || admit.site_id) THEN
            RAISE EXCEPTION 'the subscription of one site brings rows of site %', admit.site_id
                USING ERRCODE = 'insufficient_privilege';
        END IF;
    ELSIF starts_with(session_user, 'site_') AND session_user <> 'site_' || admit.site_id THEN
        RAISE EXCEPTION 'role % may not bring rows of site %', session_user, admit.site_id
            USING ERRCODE = 'insufficient_privilege';
    END IF;
END $$;

-- The site's number; a site that is not registered is refused as a whole.
CREATE OR REPLACE FUNCTION landing.number_of(site_id text) RETURNS integer LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_number integer;
BEGIN
    SELECT s.number INTO found_number FROM public.site s WHERE s.id = number_of.site_id;
    IF found_number IS NULL THEN
        RAISE EXCEPTION 'site % is not registered at central', number_of.site_id
            USING HINT = 'Register it: bacpipes central site add.', ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN found_number;
END $$;

-- The complete lane: the site's log, by logical replication or from its shipper. value4 may stand for value: a shipper
-- sends single-precision values as such, which are shorter on the wire and mean the same number.
CREATE TABLE IF NOT EXISTS public.reading_batch (
    seq              bigint,
    site_id          text        NOT NULL,
    base_time        timestamptz NOT NULL,
    interval_seconds integer,
    poll_cycle       bigint,
    poll_duration    integer,
    point_id         integer[]   NOT NULL,
    offset_ms        integer[]   NOT NULL,
    value            double precision[],
    quality          smallint[],                     -- NULL: all good
    reason           text[],
    value4           real[]
);

CREATE OR REPLACE FUNCTION landing.take_batch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    site_number integer;
    size        integer := cardinality(NEW.point_id);
    outside     bigint;
    stored      bigint;
    newest      timestamptz;
    seen        timestamptz;
    cycle       bigint := nullif(NEW.poll_cycle, -1);
    numbers     double precision[] := coalesce(NEW.value, NEW.value4::double precision[]);
    qualities   smallint[] := coalesce(NEW.quality, array_fill(0::smallint, ARRAY[cardinality(NEW.point_id)]));
BEGIN
    PERFORM landing.admit(NEW.site_id);
    site_number := landing.number_of(NEW.site_id);
    IF cardinality(NEW.offset_ms) <> size OR cardinality(qualities) <> size OR cardinality(numbers) IS DISTINCT FROM size
       OR cardinality(NEW.reason) <> size THEN
        RAISE EXCEPTION 'batch % of site % has arrays of different lengths', NEW.seq, NEW.site_id
            USING ERRCODE = 'check_violation';
    END IF;
    SELECT max(NEW.base_time + o * interval '1 ms'),
           count(*) FILTER (WHERE NEW.base_time + o * interval '1 ms' NOT BETWEEN landing.oldest() AND landing.latest())
    INTO newest, outside FROM unnest(NEW.offset_ms) AS o;
    IF outside > 0 THEN
        PERFORM landing.quarantine(NEW.site_id,
            CASE WHEN newest > landing.latest() THEN 'future' ELSE 'too-old' END,
            'reading_batch', format('seq %s: readings of %s', NEW.seq, newest), outside);
    END IF;
    -- In the order of the array, which is the order in which the live lane brings them: two lanes that insert the same
    -- rows at once wait for each other in one direction only.
    INSERT INTO public.reading (time, site, point_id, value, quality, reason, poll_duration, poll_cycle)
    SELECT NEW.base_time + e.o * interval '1 ms', site_number, e.p, e.v, e.q, e.r, NEW.poll_duration, cycle
    FROM unnest(NEW.point_id, NEW.offset_ms, numbers, qualities, NEW.reason) AS e (p, o, v, q, r)
    WHERE NEW.base_time + e.o * interval '1 ms' BETWEEN landing.oldest() AND landing.latest()
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS stored = ROW_COUNT;
    -- What the live lane brought first lacks the poll's number and length. Not in old chunks: those are compressed.
    IF stored < size - outside AND newest > now() - interval '3 hours' THEN
        UPDATE public.reading r SET poll_duration = NEW.poll_duration, poll_cycle = cycle
        FROM unnest(NEW.point_id, NEW.offset_ms) AS e (p, o)
        WHERE r.site = site_number AND r.point_id = e.p AND r.time = NEW.base_time + e.o * interval '1 ms'
          AND r.time >= NEW.base_time AND r.time <= newest AND r.poll_cycle IS NULL AND cycle IS NOT NULL;
    END IF;
    IF stored > 0 THEN
        PERFORM landing.mark_late(site_number, NEW.base_time, newest);
    END IF;
    SELECT l.seen_at INTO seen FROM public.lane l WHERE l.site = site_number AND l.name = 'complete';
    IF seen < now() - interval '2 seconds' THEN
        PERFORM landing.seen(site_number, 'complete', least(newest, landing.latest()));
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER take_batch BEFORE INSERT ON public.reading_batch
    FOR EACH ROW EXECUTE FUNCTION landing.take_batch();
ALTER TABLE public.reading_batch ENABLE ALWAYS TRIGGER take_batch;

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
        IF seen < now() - interval '2 seconds' THEN
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

-- Gaps and results come twice as readings do. The trigger inserts by itself, without a conflict, what it was given.
CREATE OR REPLACE FUNCTION landing.take_gap() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_trigger_depth() > 1 THEN
        RETURN NEW;
    END IF;
    PERFORM landing.admit(NEW.site_id), landing.number_of(NEW.site_id);
    INSERT INTO public.gap (site_id, point_ids, since, until, reason, recorded_at, key)
    VALUES (NEW.site_id, NEW.point_ids, NEW.since, NEW.until, NEW.reason, coalesce(NEW.recorded_at, now()),
            md5(NEW.point_ids::text))
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER take_gap BEFORE INSERT ON public.gap FOR EACH ROW EXECUTE FUNCTION landing.take_gap();
ALTER TABLE public.gap ENABLE ALWAYS TRIGGER take_gap;

CREATE OR REPLACE FUNCTION landing.take_result() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_trigger_depth() > 1 THEN
        RETURN NEW;
    END IF;
    PERFORM landing.admit(NEW.site_id), landing.number_of(NEW.site_id);
    INSERT INTO public.write_results AS r (job_id, site_id, point_id, success, executed_at, completed_at, error_message,
        result)
    VALUES (NEW.job_id, NEW.site_id, NEW.point_id, NEW.success, NEW.executed_at, coalesce(NEW.completed_at, now()),
            NEW.error_message, NEW.result)
    ON CONFLICT (job_id, site_id) DO UPDATE SET  -- the live way brings the payload alone
        point_id = coalesce(r.point_id, excluded.point_id), executed_at = coalesce(r.executed_at, excluded.executed_at),
        error_message = coalesce(excluded.error_message, r.error_message)
    WHERE r.point_id IS NULL AND excluded.point_id IS NOT NULL;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER take_result BEFORE INSERT ON public.write_results
    FOR EACH ROW EXECUTE FUNCTION landing.take_result();
ALTER TABLE public.write_results ENABLE ALWAYS TRIGGER take_result;

-- Count and checksum of a site's readings, hour by hour, for `bacpipes reconcile`.
CREATE OR REPLACE FUNCTION public.hour_sums(of_site text, since timestamptz, until timestamptz)
RETURNS TABLE (hour timestamptz, n bigint, checksum numeric) LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM landing.admit(of_site);
    RETURN QUERY
    SELECT date_bin('1 hour', r.time, landing.oldest()), count(*),
           sum(public.reading_checksum(r.point_id, r.time, r.value, r.quality))
    FROM public.reading r
    WHERE r.site = landing.number_of(of_site) AND r.time >= hour_sums.since AND r.time < hour_sums.until
    GROUP BY 1;
END $$;

CREATE OR REPLACE FUNCTION public.report_reconciliation(of_site text, since timestamptz, until timestamptz,
    site_rows bigint, central_rows bigint, missing_hours integer, sent_rows bigint, differing_hours integer)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM landing.admit(of_site);
    INSERT INTO public.reconciliation
        (site_id, since, until, site_rows, central_rows, missing_hours, sent_rows, differing_hours)
    VALUES (of_site, report_reconciliation.since, report_reconciliation.until, report_reconciliation.site_rows,
            report_reconciliation.central_rows, report_reconciliation.missing_hours, report_reconciliation.sent_rows,
            report_reconciliation.differing_hours);
    DELETE FROM public.reconciliation r WHERE r.site_id = of_site AND r.finished_at < now() - interval '400 days';
END $$;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA landing FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.hour_sums, public.report_reconciliation, public.release_quarantine,
    public.refresh_aggregates FROM PUBLIC;
