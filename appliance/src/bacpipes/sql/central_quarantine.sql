SELECT site_id, rule, sum(count)::bigint AS count FROM quarantine GROUP BY site_id, rule
