-- Changes of users, one after the other: the last admin must stay. No table lock: that needs a right to change all of it.
SELECT pg_advisory_xact_lock(hashtext('bacpipes app_user'))
