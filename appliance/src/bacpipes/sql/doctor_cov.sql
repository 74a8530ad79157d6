SELECT count(*) AS asked FROM point p JOIN device d ON d.id = p.device
WHERE p.enabled AND p.cov AND d.cov IS DISTINCT FROM 'off'
