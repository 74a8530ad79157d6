-- The tables of an earlier BacPipes that are visible here, "Device" before device; columns in their order.
SELECT lower(c.table_name) AS kind, c.table_schema, c.table_name,
       array_agg(c.column_name::text ORDER BY c.ordinal_position) AS columns
FROM information_schema.columns c
WHERE lower(c.table_name) = ANY(%(tables)s)
  AND c.table_schema NOT IN ('information_schema', 'pg_catalog')
GROUP BY c.table_schema, c.table_name
ORDER BY c.table_name = lower(c.table_name), c.table_schema = 'public' DESC, c.table_schema
