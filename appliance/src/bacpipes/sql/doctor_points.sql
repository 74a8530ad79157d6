WITH bad AS (
    SELECT p.haystack_name, d.device_id || ' ' || p.object_type || ':' || p.object_instance AS object, l.reason
    FROM last_value l JOIN point p ON p.id = l.point_id JOIN device d ON d.id = p.device
    WHERE p.enabled AND l.quality = 2 AND l.reason NOT IN ('no answer from the device', 'silent device: it is probed until it answers')
    ORDER BY d.device_id, p.object_type, p.object_instance
), recent AS (
    SELECT reason FROM gap WHERE until > now() - INTERVAL '24 hours' ORDER BY until DESC
)
SELECT (SELECT count(*) FROM point
        WHERE enabled AND writable AND object_type LIKE 'analog%' AND minimum IS NULL AND maximum IS NULL) AS unlimited,
       (SELECT count(*) FROM bad) AS bad,
       (SELECT coalesce(haystack_name, object) FROM bad LIMIT 1) AS example,
       (SELECT reason FROM bad LIMIT 1) AS reason,
       (SELECT count(*) FROM bad WHERE reason LIKE 'quarantined: %') AS quarantined,
       (SELECT string_agg(coalesce(haystack_name, object) || ' (' || substr(reason, 14) || ')', ', ')
        FROM (SELECT * FROM bad WHERE reason LIKE 'quarantined: %' LIMIT 5) AS first) AS quarantined_points,
       (SELECT count(*) FROM recent) AS gaps,
       (SELECT reason FROM recent LIMIT 1) AS gap_reason
