-- The slot at the site: its name, whether somebody uses it, and how its WAL is kept ('lost': given up for good).
SELECT active, wal_status FROM pg_replication_slots WHERE slot_name = %s AND database = current_database()
