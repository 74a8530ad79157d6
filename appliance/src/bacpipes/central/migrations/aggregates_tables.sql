-- Aggregates as tables, which `central serve` has refreshed every few minutes: the last hours by themselves, and older
-- hours that readings came for since.
CREATE TABLE reading_5min (
    bucket   timestamptz NOT NULL,
    site     integer     NOT NULL,
    point_id integer     NOT NULL,
    readings bigint      NOT NULL,
    with_value bigint      NOT NULL,                    -- those that are not null
    average  double precision,
    minimum  double precision,
    maximum  double precision,
    PRIMARY KEY (site, point_id, bucket)
);
CREATE TABLE reading_hourly (LIKE reading_5min INCLUDING ALL);
CREATE TABLE aggregated (id boolean PRIMARY KEY DEFAULT true CHECK (id), until timestamptz NOT NULL);
INSERT INTO aggregated (until) VALUES ('2000-01-01');

CREATE SCHEMA IF NOT EXISTS landing;
-- Without a unique key, so that two lanes never wait for each other here. A mark is taken no sooner than ten minutes
-- after it was made and stands for five: a reading that is being stored is never passed over.
CREATE TABLE landing.late_hour (site integer NOT NULL, hour timestamptz NOT NULL, at timestamptz NOT NULL DEFAULT now());
CREATE INDEX late_hour_key ON landing.late_hour (site, hour);

CREATE FUNCTION landing.mark_late(site_number integer, oldest timestamptz, newest timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF oldest = newest THEN  -- one message: it is asked for each
        IF EXISTS (SELECT FROM landing.late_hour l WHERE l.site = site_number
                   AND l.hour = date_bin('1 hour', oldest, '2000-01-01 00:00:00+00')
                   AND l.at > now() - interval '5 minutes') THEN
            RETURN;
        END IF;
    END IF;
    IF oldest < now() - interval '2 hours' THEN
        INSERT INTO landing.late_hour (site, hour)
        SELECT site_number, h FROM generate_series(
            date_bin('1 hour', greatest(oldest, now() - interval '40 years'), '2000-01-01 00:00:00+00'),
            least(newest, now()), interval '1 hour') AS h
        WHERE NOT EXISTS (SELECT FROM landing.late_hour l WHERE l.site = site_number AND l.hour = h
                          AND l.at > now() - interval '5 minutes');
    END IF;
END $$;

CREATE FUNCTION landing.aggregate(since timestamptz, until timestamptz, only_site integer) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed bigint;
BEGIN
    INSERT INTO public.reading_5min AS a
    SELECT date_bin('5 minutes', r.time, '2000-01-01 00:00:00+00') AS bucket, r.site, r.point_id,
           count(*), count(r.value), avg(r.value), min(r.value), max(r.value)
    FROM public.reading r
    WHERE r.time >= since AND r.time < until AND (only_site IS NULL OR r.site = only_site)
    GROUP BY 1, 2, 3
    ON CONFLICT (site, point_id, bucket) DO UPDATE SET readings = excluded.readings, with_value = excluded.with_value,
        average = excluded.average, minimum = excluded.minimum, maximum = excluded.maximum
    WHERE (a.readings, a.with_value) <> (excluded.readings, excluded.with_value);
    GET DIAGNOSTICS changed = ROW_COUNT;
    INSERT INTO public.reading_hourly AS a
    SELECT date_bin('1 hour', f.bucket, '2000-01-01 00:00:00+00') AS hour, f.site, f.point_id,
           sum(f.readings), sum(f.with_value), sum(f.average * f.with_value) / nullif(sum(f.with_value), 0),
           min(f.minimum), max(f.maximum)
    FROM public.reading_5min f
    WHERE f.bucket >= since AND f.bucket < until AND (only_site IS NULL OR f.site = only_site)
    GROUP BY 1, 2, 3
    ON CONFLICT (site, point_id, bucket) DO UPDATE SET readings = excluded.readings, with_value = excluded.with_value,
        average = excluded.average, minimum = excluded.minimum, maximum = excluded.maximum
    WHERE (a.readings, a.with_value) <> (excluded.readings, excluded.with_value);
    RETURN changed;
END $$;

-- Returns how many 5-minute rows changed. One at a time; a second call returns at once.
CREATE FUNCTION refresh_aggregates() RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    done    timestamptz;
    changed bigint := 0;
    late    record;
BEGIN
    SELECT a.until INTO done FROM public.aggregated a FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    changed := landing.aggregate(date_bin('1 hour', done - interval '2 hours', '2000-01-01 00:00:00+00'),
                                 now() + interval '1 day', NULL);
    FOR late IN
        WITH taken AS (DELETE FROM landing.late_hour l WHERE l.at < now() - interval '10 minutes' RETURNING l.site, l.hour)
        SELECT DISTINCT site, hour FROM taken
    LOOP
        changed := changed + landing.aggregate(late.hour, late.hour + interval '1 hour', late.site);
    END LOOP;
    UPDATE public.aggregated SET until = greatest(until, now());
    RETURN changed;
END $$;
