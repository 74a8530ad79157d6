SELECT id, device_id, name, address, ip, max_apdu, read_multiple FROM device ORDER BY id
