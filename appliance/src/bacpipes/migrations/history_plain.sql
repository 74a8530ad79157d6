-- Plain PostgreSQL: native range partitions by UTC day. A row of a day that has no partition is never refused: it waits
-- in the default one until the next housekeeping gives that day its partition.
CREATE TABLE reading_default PARTITION OF reading DEFAULT;

-- A day's partition, with the rows that waited for it. First the table is locked against writers: a statement already on
-- its way to the default partition would be refused there once the day has its own. Nothing else waits meanwhile than
-- the rows that have to move. Both locks are given up soon, so that neither a long export nor a backup blocks writers.
CREATE FUNCTION history_partition(day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' AS $$
DECLARE
    name  text := 'reading_p' || to_char(day, 'YYYYMMDD');
    since timestamptz := day;
    until timestamptz := day + 1;
BEGIN
    LOCK TABLE ONLY public.reading IN SHARE ROW EXCLUSIVE MODE;
    LOCK TABLE public.reading_default IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('CREATE TABLE public.%I (LIKE public.reading INCLUDING DEFAULTS INCLUDING INDEXES)', name);
    EXECUTE format('WITH moved AS (DELETE FROM public.reading_default WHERE time >= $1 AND time < $2 RETURNING *)
                    INSERT INTO public.%I SELECT * FROM moved', name) USING since, until;
    EXECUTE format('ALTER TABLE public.reading ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                   name, since, until);
END $$;

-- Housekeeping, one step a call, so that each step commits and lets go of its locks: a partition for a day that comes or
-- that has rows waiting, else the oldest partition that is too old. No row: nothing is left to do.
CREATE FUNCTION history_maintain(keep interval, at timestamptz DEFAULT now(), OUT action text, OUT partition text)
RETURNS SETOF record LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = 0 AS $$
DECLARE
    today  date := at::date;
    oldest timestamptz := at - keep;
    day    date;
BEGIN
    IF keep IS NULL OR keep < INTERVAL '1 day' THEN
        RAISE EXCEPTION 'history is kept for a day at least, not for %', keep;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('bacpipes history_maintain'));  -- one at a time
    PERFORM set_config('lock_timeout', '500ms', true);

    SELECT min(d) INTO day FROM (
        SELECT today + n FROM generate_series(-1, 2) AS n
        UNION
        SELECT time::date FROM public.reading_default WHERE time >= oldest AND time < '10000-01-01'
    ) AS wanted (d)
    WHERE to_regclass('public.reading_p' || to_char(d, 'YYYYMMDD')) IS NULL;
    IF day IS NOT NULL THEN
        PERFORM public.history_partition(day);
        action := 'created';
        partition := 'reading_p' || to_char(day, 'YYYYMMDD');
        RETURN NEXT;
        RETURN;
    END IF;

    SELECT min(c.relname) INTO partition FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE i.inhparent = 'public.reading'::regclass AND c.relname ~ '^reading_p[0-9]{8}$'
      AND (to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamptz <= oldest;
    IF partition IS NOT NULL THEN
        EXECUTE format('DROP TABLE public.%I', partition);
        action := 'dropped';
        RETURN NEXT;
        RETURN;
    END IF;

    DELETE FROM public.reading_default WHERE time < oldest;

    -- Autovacuum analyses the partitions but never their parent, and without its statistics exports are planned badly.
    IF (SELECT last_analyze IS NULL OR last_analyze < clock_timestamp() - INTERVAL '1 day'
        FROM pg_stat_user_tables WHERE relid = 'public.reading'::regclass) THEN
        ANALYZE public.reading;
    END IF;
END $$;
REVOKE EXECUTE ON FUNCTION history_partition, history_maintain FROM PUBLIC;
