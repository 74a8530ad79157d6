SELECT p.id, d.device_id AS "deviceId", d.name AS "deviceName", d.ip AS "deviceIp",
       p.object_type AS "objectType", p.object_instance AS "objectInstance", p.name AS "pointName",
       p.haystack_name AS "haystackName", p.dis, p.units, p.site AS "siteId", p.equip AS "equipmentType",
       p.equip_ref AS "equipmentId", p.topic, p.interval_seconds AS "interval", p.enabled, p.writable AS "isWritable",
       p.minimum AS "minPresValue", p.maximum AS "maxPresValue", p.states,
       CASE WHEN v.value - v.value = 0 THEN v.value END AS "lastValue", v.time AS "lastPollTime",
       (ARRAY['good', 'uncertain', 'bad'])[v.quality + 1] AS quality, v.reason,
       CASE WHEN v.good_value - v.good_value = 0 THEN v.good_value END AS "lastGoodValue", v.good_time AS "lastGoodTime"
FROM point p
JOIN device d ON d.id = p.device
LEFT JOIN last_value v ON v.point_id = p.id
WHERE d.site_id = %(site)s
ORDER BY d.device_id, p.object_type, p.object_instance
