-- As export_csv.sql, but each row is one JSON object behind a comma. Only what changes from row to row is put together
-- for each; the rest is text made once for each point. JSON has no NaN or infinity: they become null.
SELECT ',{"time":"' || to_char(r.time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') || p.head
       || CASE WHEN r.value - r.value = 0 THEN r.value::text ELSE 'null' END || p.middle
       || CASE r.quality WHEN 0 THEN 'good' WHEN 1 THEN 'uncertain' ELSE 'bad' END || p.tail
FROM reading r
CROSS JOIN LATERAL (
    SELECT '","haystack_name":' || coalesce(to_json(point.haystack_name)::text, 'null')
           || ',"dis":' || to_json(point.dis) || ',"value":' AS head,
           ',"units":' || to_json(point.units) || ',"quality":"' AS middle,
           '","device_name":' || to_json(device.name) || ',"device_ip":' || to_json(device.ip)
           || ',"object_type":' || to_json(point.object_type) || ',"object_instance":' || point.object_instance || '}'
           AS tail
    FROM point JOIN device ON device.id = point.device
    WHERE point.id = r.point_id
    OFFSET 0
) p
WHERE r.time >= %(start)s AND r.time <= %(end)s AND (%(point)s::integer IS NULL OR r.point_id = %(point)s)
ORDER BY r.time DESC
