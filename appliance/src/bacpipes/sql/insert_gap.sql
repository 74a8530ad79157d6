-- Once: a spool that is drained again brings the same gaps again.
INSERT INTO gap (site_id, point_ids, since, until, reason)
SELECT g.* FROM (SELECT %s::text, %s::integer[], %s::timestamptz, %s::timestamptz, %s::text)
    AS g (site_id, point_ids, since, until, reason)
WHERE NOT EXISTS (SELECT FROM gap o WHERE o.since = g.since AND o.until = g.until AND o.point_ids = g.point_ids)
