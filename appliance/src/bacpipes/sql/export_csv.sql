-- The columns of sensor_readings that are exported, newest first, with the same names and values, as lines of CSV: one
-- text for all readings of one moment (mostly a device's answer), and how many there are.
-- Written on the tables instead of the view so that a million rows are never sorted nor joined one by one: the history's
-- index on time gives the order, what is constant for a point is made once and remembered (Memoize; OFFSET 0 keeps the
-- planner from taking the subquery apart), and the time, for which a mark made for this export
-- stands, is put into words once a moment.
-- A cell that a spreadsheet would take for a formula gets an apostrophe; one with a comma, a quote or a line's end is
-- quoted.
SELECT replace(string_agg(line, ''), %(mark)s, to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')),
       count(*)
FROM (
    SELECT r.time, p.head || coalesce(r.value::text, '') || p.tails[r.quality + 1] AS line
    FROM reading r
    CROSS JOIN LATERAL (
        SELECT %(mark)s || ',' || cells[1] || ',' || cells[2] || ',' AS head,
               ARRAY(SELECT ',' || cells[3] || ',' || quality || ',' || cells[4] || ',' || cells[5] || ',' || object_type
                            || ',' || object_instance || E'\n'
                     FROM unnest(ARRAY['good', 'uncertain', 'bad']) AS quality) AS tails
        FROM (
            SELECT point.object_type, point.object_instance, ARRAY(
                SELECT CASE WHEN safe ~ '[",\r\n]' THEN '"' || replace(safe, '"', '""') || '"' ELSE safe END
                FROM unnest(ARRAY[point.haystack_name, point.dis, point.units, device.name, device.ip])
                     WITH ORDINALITY AS cell (content, number),
                     LATERAL (SELECT regexp_replace(coalesce(content, ''), E'^(?=[-=+@\t\r\n])', '''') AS safe) AS made
                ORDER BY number
            ) AS cells
            FROM point JOIN device ON device.id = point.device
            WHERE point.id = r.point_id
        ) AS texts
        OFFSET 0
    ) p
    WHERE r.time >= %(start)s AND r.time <= %(end)s AND (%(point)s::integer IS NULL OR r.point_id = %(point)s)
) AS lines
GROUP BY time
ORDER BY time DESC
