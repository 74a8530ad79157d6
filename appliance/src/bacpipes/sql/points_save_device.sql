-- What was learnt from the device at its old address need not hold at the new one.
INSERT INTO device AS d (site_id, device_id, name, address)
VALUES (%(site)s, %(device_id)s, %(name)s, %(address)s)
ON CONFLICT (site_id, device_id) DO UPDATE SET
    name = excluded.name,
    address = excluded.address,
    max_apdu = CASE WHEN d.address = excluded.address THEN d.max_apdu END,
    batch_points = CASE WHEN d.address = excluded.address THEN d.batch_points END,
    read_multiple = d.read_multiple OR d.address <> excluded.address,
    updated_at = now()
