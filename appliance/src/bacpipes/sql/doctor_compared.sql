-- What the last comparison with central left.
SELECT finished_at, differing_hours FROM reconciliation ORDER BY id DESC LIMIT 1
