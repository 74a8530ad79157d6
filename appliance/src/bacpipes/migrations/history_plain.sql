-- Plain PostgreSQL: native range partitions by UTC day. Rows of a day that has no partition yet wait in the default one,
-- so that no reading is ever refused; the next housekeeping gives them their day.
CREATE TABLE reading_default PARTITION OF reading DEFAULT;

CREATE FUNCTION history_partition(day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    name  text := 'reading_p' || to_char(day, 'YYYYMMDD');
    since timestamptz := day::timestamp AT TIME ZONE 'UTC';
    until timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF to_regclass('public.' || name) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE reading INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)', name);
    EXECUTE format('WITH moved AS (DELETE FROM reading_default WHERE time >= $1 AND time < $2 RETURNING *)
                    INSERT INTO %I SELECT * FROM moved', name) USING since, until;
    EXECUTE format('ALTER TABLE reading ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, since, until);
END $$;

-- Partitions for what comes next and for what waits in the default one; drops those that are too old. Returns their names.
CREATE FUNCTION history_maintain(keep interval, at timestamptz DEFAULT now()) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    today date := (at AT TIME ZONE 'UTC')::date;
    old   text;
    day   date;
BEGIN
    FOR day IN
        SELECT today + n FROM generate_series(-1, 2) AS n
        UNION
        SELECT DISTINCT (time AT TIME ZONE 'UTC')::date FROM reading_default WHERE time >= at - keep
    LOOP
        PERFORM history_partition(day);
    END LOOP;
    FOR old IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'public.reading'::regclass AND c.relname ~ '^reading_p[0-9]{8}$'
          AND ((to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC') <= at - keep
    LOOP
        EXECUTE format('DROP TABLE %I', old);
        RETURN NEXT old;
    END LOOP;
    DELETE FROM reading_default WHERE time < at - keep;
END $$;
REVOKE EXECUTE ON FUNCTION history_partition, history_maintain FROM PUBLIC;
