-- As export_csv.sql, but each row is one JSON object behind a comma. JSON has no NaN or infinity: they become null.
SELECT replace(string_agg(line, ''), %(mark)s, to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
       count(*)
FROM (
    SELECT r.time, p.head || CASE WHEN r.value - r.value = 0 THEN r.value::text ELSE 'null' END || p.tails[r.quality + 1]
           AS line
    FROM reading r
    CROSS JOIN LATERAL (
        SELECT ',{"time":"' || %(mark)s || '","haystack_name":' || coalesce(to_json(point.haystack_name)::text, 'null')
               || ',"dis":' || to_json(point.dis) || ',"value":' AS head,
               ARRAY(SELECT ',"units":' || to_json(point.units) || ',"quality":"' || quality
                            || '","device_name":' || to_json(device.name) || ',"device_ip":' || to_json(device.ip)
                            || ',"object_type":' || to_json(point.object_type)
                            || ',"object_instance":' || point.object_instance || E'}\n'
                     FROM unnest(ARRAY['good', 'uncertain', 'bad']) AS quality) AS tails
        FROM point JOIN device ON device.id = point.device
        WHERE point.id = r.point_id
        OFFSET 0
    ) p
    WHERE r.time >= %(start)s AND r.time <= %(end)s AND (%(point)s::integer IS NULL OR r.point_id = %(point)s)
) AS lines
GROUP BY time
ORDER BY time DESC
