-- One text for each thing that a migration can change; equal texts: nothing was changed. Partitions come and go by
-- themselves and are left out.
SELECT 'tables', coalesce(md5(string_agg(concat_ws(' ', c.relname, c.relkind, c.relrowsecurity, a.columns), ';' ORDER BY c.relname)), '')
FROM pg_class c
CROSS JOIN LATERAL (
    SELECT string_agg(concat_ws(' ', attname, atttypid::regtype, attnotnull), ',' ORDER BY attnum) AS columns
    FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped) a
WHERE c.relnamespace = 'public'::regnamespace AND NOT c.relispartition
UNION ALL
SELECT 'functions', coalesce(md5(string_agg(pg_get_functiondef(oid), ';' ORDER BY oid::regprocedure::text)), '')
FROM pg_proc p
WHERE pronamespace = 'public'::regnamespace AND prokind IN ('f', 'p')
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
UNION ALL
SELECT 'grants', coalesce(md5(string_agg(granted, ';' ORDER BY granted)), '')
FROM (
    SELECT concat_ws(' ', 'table', relname, acl) FROM pg_class, unnest(relacl) acl
    WHERE relnamespace = 'public'::regnamespace AND NOT relispartition
    UNION ALL SELECT concat_ws(' ', 'function', oid::regprocedure, acl) FROM pg_proc, unnest(proacl) acl
    WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT concat_ws(' ', 'schema', nspname, acl) FROM pg_namespace, unnest(nspacl) acl WHERE nspname = 'public'
    UNION ALL SELECT concat_ws(' ', 'default', defaclrole::regrole, defaclobjtype, acl) FROM pg_default_acl, unnest(defaclacl) acl
    UNION ALL SELECT concat_ws(' ', 'policy', polrelid::regclass, polname, polcmd) FROM pg_policy
) AS grants (granted)
UNION ALL
SELECT 'extensions', coalesce(string_agg(concat_ws(' ', extname, extversion), ';' ORDER BY extname), '') FROM pg_extension
