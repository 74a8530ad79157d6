-- The columns of sensor_readings that are exported, newest first, with the same names and values.
-- Written on the tables instead of the view so that a million rows are never sorted nor joined one by one: the history's
-- index on time gives the order, and what is constant for a point is made once and remembered (Memoize; OFFSET 0 keeps
-- the planner from taking the subquery apart). A cell that a spreadsheet would take for a formula gets an apostrophe.
SELECT to_char(r.time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS time,
       p.haystack_name, p.dis, r.value, p.units,
       CASE r.quality WHEN 0 THEN 'good' WHEN 1 THEN 'uncertain' ELSE 'bad' END AS quality,
       p.device_name, p.device_ip, p.object_type, p.object_instance
FROM reading r
CROSS JOIN LATERAL (
    SELECT regexp_replace(nullif(point.haystack_name, ''), E'^(?=[-=+@\t\r\n])', '''') AS haystack_name,
           regexp_replace(nullif(point.dis, ''), E'^(?=[-=+@\t\r\n])', '''') AS dis,
           regexp_replace(nullif(point.units, ''), E'^(?=[-=+@\t\r\n])', '''') AS units,
           regexp_replace(nullif(device.name, ''), E'^(?=[-=+@\t\r\n])', '''') AS device_name,
           regexp_replace(device.ip, E'^(?=[-=+@\t\r\n])', '''') AS device_ip,
           point.object_type, point.object_instance
    FROM point JOIN device ON device.id = point.device
    WHERE point.id = r.point_id
    OFFSET 0
) p
WHERE r.time >= %(start)s AND r.time <= %(end)s AND (%(point)s::integer IS NULL OR r.point_id = %(point)s)
ORDER BY r.time DESC
