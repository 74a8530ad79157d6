-- TimescaleDB under the Apache licence: a hypertable; our own housekeeping drops the chunks that are too old.
SELECT create_hypertable('reading', by_range('time', INTERVAL '1 day'), create_default_indexes => false);

-- The same face as on plain PostgreSQL: repeat it until it returns no row.
CREATE FUNCTION history_maintain(keep interval, at timestamptz DEFAULT now(), OUT action text, OUT partition text)
RETURNS SETOF record LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET timezone = 'UTC' SET lock_timeout = 0 AS $$
BEGIN
    IF keep IS NULL OR keep < INTERVAL '1 day' THEN
        RAISE EXCEPTION 'history is kept for a day at least, not for %', keep;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('bacpipes history_maintain'));  -- one at a time
    PERFORM set_config('lock_timeout', '500ms', true);
    RETURN QUERY SELECT 'dropped', chunk FROM public.drop_chunks('public.reading', older_than => at - keep) AS chunk;
END $$;
REVOKE EXECUTE ON FUNCTION history_maintain FROM PUBLIC;
