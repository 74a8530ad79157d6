-- What is told by COV is polled seldom, and is as fresh as that.
SELECT count(*) AS enabled, min(every) AS shortest, max(time) AS newest, count(*) FILTER (WHERE fresh) AS fresh,
       count(*) FILTER (WHERE fresh AND quality = 0) AS good
FROM (
    SELECT every, l.time, l.quality, l.time > now() - 3 * every * INTERVAL '1 s' AS fresh
    FROM point p LEFT JOIN last_value l ON l.point_id = p.id,
         LATERAL (SELECT CASE WHEN p.cov THEN greatest(p.interval_seconds, %(cov_poll)s)
                              ELSE p.interval_seconds END AS every) AS effective
    WHERE p.enabled
) AS polled
