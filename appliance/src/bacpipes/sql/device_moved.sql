-- A device answers elsewhere: its address changes, unless somebody changed it meanwhile or another device is there.
WITH moved AS (
    UPDATE device d SET address = %(address)s, updated_at = now()
    WHERE d.id = %(id)s AND d.address = %(before)s
      AND NOT EXISTS (SELECT FROM device o WHERE o.site_id = d.site_id AND o.address = %(address)s)
    RETURNING d.device_id
)
INSERT INTO audit (actor, action, subject, detail)
SELECT 'worker', 'device.moved', device_id::text, jsonb_build_object('from', %(before)s::text, 'to', %(address)s::text)
FROM moved
