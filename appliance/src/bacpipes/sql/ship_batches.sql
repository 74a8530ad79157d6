-- The batches as central's landing table takes them. BACnet's reals are single precision: where every value is one, the
-- short text of a real says the same number. Where all is good, no quality is sent.
COPY (
    SELECT b.seq, b.site_id, b.base_time, b.interval_seconds, b.poll_cycle, b.poll_duration, b.point_id, b.offset_ms,
           CASE WHEN s.single THEN NULL ELSE b.value END, CASE WHEN s.good THEN NULL ELSE b.quality END,
           b.reason, CASE WHEN s.single THEN b.value::real[] END
    FROM reading_batch b, LATERAL (
        SELECT coalesce(bool_and(CASE WHEN v IS NULL OR v = 0 THEN true
                                      WHEN abs(v) BETWEEN 1e-37 AND 3.4e38 THEN v::real::double precision = v
                                      ELSE false END), true) AS single,
               0 = ALL (b.quality) AS good
        FROM unnest(b.value) AS v) AS s
    WHERE b.seq > %(after)s AND b.seq <= %(upto)s
    ORDER BY b.seq
) TO STDOUT
