-- The same for what TimescaleDB keeps of the history table.
SELECT 'policies', coalesce(string_agg(concat_ws(' ', proc_name, schedule_interval, config), ';' ORDER BY proc_name), '')
FROM timescaledb_information.jobs WHERE hypertable_schema = 'public' AND hypertable_name = 'reading'
UNION ALL
SELECT 'chunk length', coalesce(string_agg(time_interval::text, ';'), '')
FROM timescaledb_information.dimensions WHERE hypertable_schema = 'public' AND hypertable_name = 'reading'
