-- TimescaleDB under the Community licence: a hypertable with columnstore. central/history.py sets the policies.
SELECT create_hypertable('reading', by_range('time', INTERVAL '6 hours'), create_default_indexes => false);
ALTER TABLE reading SET (
    timescaledb.enable_columnstore, timescaledb.segmentby = 'site, point_id', timescaledb.orderby = 'time DESC');
