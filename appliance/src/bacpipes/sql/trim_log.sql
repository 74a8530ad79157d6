DELETE FROM reading_batch
WHERE seq <= (SELECT coalesce(min(f.seq), (SELECT max(seq) FROM reading_batch)) FROM follower f
              WHERE f.name = ANY(%(followers)s))
