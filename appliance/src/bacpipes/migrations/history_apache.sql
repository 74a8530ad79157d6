-- TimescaleDB under the Apache licence: a hypertable; our own housekeeping drops what is too old.
SELECT create_hypertable('reading', by_range('time', INTERVAL '1 day'), create_default_indexes => false);

CREATE FUNCTION history_maintain(keep interval, at timestamptz DEFAULT now()) RETURNS SETOF text
LANGUAGE sql SECURITY DEFINER SET search_path = public, pg_temp AS $$
    SELECT drop_chunks('public.reading', older_than => at - keep)
$$;
REVOKE EXECUTE ON FUNCTION history_maintain FROM PUBLIC;
