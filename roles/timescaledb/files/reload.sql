-- A second later than the files at the least, because the server tells their age to the second only.
SELECT pg_sleep(1);
SELECT pg_reload_conf();
SELECT pg_sleep(1);
