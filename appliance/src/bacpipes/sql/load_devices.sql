SELECT id, device_id, name, address, max_apdu, read_multiple FROM device ORDER BY id
