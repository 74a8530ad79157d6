-- A subscription: is it enabled, has it a worker that applies, and what we noted at it (replication.Note).
SELECT u.subname, u.subenabled, EXISTS (SELECT FROM pg_stat_subscription s WHERE s.subid = u.oid AND s.pid IS NOT NULL),
       coalesce(obj_description(u.oid, 'pg_subscription'), '')
FROM pg_subscription u
WHERE u.subname LIKE 'site\_%%' AND u.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (%(name)s::text IS NULL OR u.subname = %(name)s)
ORDER BY u.subname
