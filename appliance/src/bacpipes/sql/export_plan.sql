-- For an export's transaction: order comes from the index on time, also while the statistics are young; one core.
SET LOCAL transaction_read_only = on;
SET LOCAL enable_sort = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL jit = off;
SET LOCAL max_parallel_workers_per_gather = 0;
SET LOCAL client_encoding = 'UTF8';
