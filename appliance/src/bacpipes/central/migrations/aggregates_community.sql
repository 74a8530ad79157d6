-- Continuous aggregates: the server keeps them, late readings included; central/history.py sets when.
CREATE MATERIALIZED VIEW reading_5min WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '5 minutes', time) AS bucket, site, point_id,
       count(*) AS readings, count(value) AS with_value, avg(value) AS average, min(value) AS minimum, max(value) AS maximum
FROM reading GROUP BY 1, 2, 3 WITH NO DATA;
CREATE MATERIALIZED VIEW reading_hourly WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket(INTERVAL '1 hour', time) AS bucket, site, point_id,
       count(*) AS readings, count(value) AS with_value, avg(value) AS average, min(value) AS minimum, max(value) AS maximum
FROM reading GROUP BY 1, 2, 3 WITH NO DATA;

CREATE SCHEMA IF NOT EXISTS landing;
CREATE FUNCTION landing.mark_late(site_number integer, oldest timestamptz, newest timestamptz) RETURNS void
LANGUAGE sql AS $$ SELECT NULL::void $$;
-- The same face on every engine; here the server does it by policy.
CREATE FUNCTION refresh_aggregates() RETURNS bigint LANGUAGE sql AS $$ SELECT 0::bigint $$;
