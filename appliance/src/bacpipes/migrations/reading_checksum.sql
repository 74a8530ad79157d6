-- What a reading is, as one number: the sum over many is the same whatever their order. The site and central have the
-- very same function; `bacpipes reconcile` compares their sums. A float goes in by its eight bytes, so that no digit is
-- lost, and -0 is not 0.
CREATE OR REPLACE FUNCTION reading_checksum(
    point_id integer, at timestamptz, value double precision, quality smallint
) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT pg_catalog.hashtextextended(
        point_id::text || ' ' || (extract(epoch FROM at) * 1000)::bigint::text || ' '
        || coalesce(pg_catalog.encode(pg_catalog.float8send(value), 'hex'), '-') || ' ' || quality::text, 0)
$$;
