SELECT array_agg(c.relname::text ORDER BY c.relname)
FROM pg_subscription_rel r JOIN pg_subscription u ON u.oid = r.srsubid JOIN pg_class c ON c.oid = r.srrelid
WHERE u.subname = %s AND u.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
