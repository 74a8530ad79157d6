-- Batches that wait for a follower, and the oldest one's base time.
SELECT count(*), min(base_time) FROM reading_batch WHERE seq > (SELECT seq FROM follower WHERE name = 'shipper')
