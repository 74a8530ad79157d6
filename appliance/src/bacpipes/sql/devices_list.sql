SELECT d.device_id, d.name, d.address, (SELECT count(*) FROM point p WHERE p.device = d.id AND p.enabled),
       d.timeout_seconds, d.retries, d.concurrency, d.cov
FROM device d
WHERE d.site_id = %(site)s
ORDER BY d.device_id
