-- Prints the statement that brings this database to the TimescaleDB that the image offers; nothing where it is there, or
-- where the database has and needs none. It has to be the first of its session.
SELECT CASE
    WHEN e.extversion IS NULL THEN 'CREATE EXTENSION timescaledb;'
    WHEN string_to_array(regexp_replace(e.extversion, '[^0-9.].*', ''), '.')::integer[]
         > string_to_array(regexp_replace(a.default_version, '[^0-9.].*', ''), '.')::integer[]
    THEN format('refused: database %s has TimescaleDB %s, the image offers %s', current_database(), e.extversion, a.default_version)
    ELSE 'ALTER EXTENSION timescaledb UPDATE;'
END
FROM pg_available_extensions a LEFT JOIN pg_extension e ON e.extname = a.name
WHERE a.name = 'timescaledb' AND e.extversion IS DISTINCT FROM a.default_version
  AND (e.extversion IS NOT NULL OR current_database() = :'database');
