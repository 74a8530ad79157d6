-- The narrow history table, the same on every engine. {partitioning} is filled in by central/history.py.
CREATE TABLE reading (
    time          timestamptz      NOT NULL,
    site          integer          NOT NULL,         -- site.number
    point_id      integer          NOT NULL,         -- the site's own point.id: a row can come before its point is known
    value         double precision,
    quality       smallint         NOT NULL,
    reason        text,
    poll_duration integer,                           -- ms; NULL where only the live lane brought the row
    poll_cycle    bigint,
    PRIMARY KEY (site, point_id, time)
) {partitioning};
CREATE INDEX reading_site_time ON reading (site, time DESC);

-- What people and tools query: the specification's columns. A row whose point is not known yet shows without its names.
CREATE VIEW sensor_readings AS
SELECT r.time, s.id AS site_id, p.equip AS equipment_type, p.equip_ref AS equipment_id,
       p.device_id, d.name AS device_name, d.ip AS device_ip,
       p.object_type, p.object_instance, r.point_id, p.name AS point_name, p.haystack_name, p.dis,
       r.value, p.units, (ARRAY['good', 'uncertain', 'bad'])[r.quality + 1] AS quality,
       r.poll_duration, r.poll_cycle
FROM reading r
JOIN site s ON s.number = r.site
LEFT JOIN point p ON p.site = r.site AND p.id = r.point_id
LEFT JOIN device d ON d.site_id = p.site_id AND d.device_id = p.device_id;
