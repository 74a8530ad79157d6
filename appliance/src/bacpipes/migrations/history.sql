-- The narrow history table, the same on every engine. {partitioning} is filled in by history.py.
CREATE TABLE reading (
    time          timestamptz      NOT NULL,
    point_id      integer          NOT NULL,
    value         double precision,
    quality       smallint         NOT NULL,
    reason        text,
    poll_duration integer,                           -- ms
    poll_cycle    bigint,
    PRIMARY KEY (point_id, time)
) {partitioning};
CREATE INDEX reading_time ON reading (time DESC);

-- What people and tools query: the specification's columns.
CREATE VIEW sensor_readings AS
SELECT r.time, p.site AS site_id, p.equip AS equipment_type, p.equip_ref AS equipment_id,
       d.device_id, d.name AS device_name, d.ip AS device_ip,
       p.object_type, p.object_instance, p.id AS point_id, p.name AS point_name, p.haystack_name, p.dis,
       r.value, p.units, (ARRAY['good', 'uncertain', 'bad'])[r.quality + 1] AS quality,
       r.poll_duration, r.poll_cycle
FROM reading r
JOIN point p ON p.id = r.point_id
JOIN device d ON d.id = p.device;
