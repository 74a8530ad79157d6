-- The shipper begins, or goes on. Was anything of the log deleted that it had not passed? Then history has to fill in.
WITH before AS (
    SELECT f.seq, f.active, (SELECT min(b.seq) FROM reading_batch b) AS first FROM follower f WHERE f.name = 'shipper'
), moved AS (
    UPDATE follower f SET active = true, seq = greatest(f.seq, CASE WHEN f.name = 'shipper' THEN before.first - 1 END)
    FROM before WHERE f.name IN ('shipper', 'shipper_results', 'shipper_gaps')
    RETURNING f.name
)
SELECT NOT before.active OR before.first > before.seq + 1 FROM before WHERE EXISTS (SELECT FROM moved)
