-- TimescaleDB under the Community licence: a hypertable with columnstore. history.py sets the length of its chunks and
-- the columnstore and retention policies, which the server itself carries out.
SELECT create_hypertable('reading', by_range('time', INTERVAL '6 hours'), create_default_indexes => false);
ALTER TABLE reading SET (
    timescaledb.enable_columnstore, timescaledb.segmentby = 'point_id', timescaledb.orderby = 'time DESC');
