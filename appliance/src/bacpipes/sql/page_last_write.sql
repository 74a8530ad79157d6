SELECT r.completed_at, r.success, r.error_message, r.result->>'value' AS value, r.result->>'priority' AS priority,
       coalesce(p.dis, '') AS dis, p.haystack_name, p.units
FROM write_results r LEFT JOIN point p ON p.id = r.point_id
WHERE r.site_id = %(site)s
ORDER BY r.seq DESC LIMIT 1
