SELECT subenabled FROM pg_subscription
WHERE subname = %s AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
