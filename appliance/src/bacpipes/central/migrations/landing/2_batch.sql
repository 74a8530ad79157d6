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
    IF seen NOT BETWEEN now() - interval '2 seconds' AND now() + interval '2 seconds' THEN  -- our clock may be set back
        PERFORM landing.seen(site_number, 'complete', least(newest, landing.latest()));
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER take_batch BEFORE INSERT ON public.reading_batch
    FOR EACH ROW EXECUTE FUNCTION landing.take_batch();
ALTER TABLE public.reading_batch ENABLE ALWAYS TRIGGER take_batch;
