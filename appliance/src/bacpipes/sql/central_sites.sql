-- Every site, and how it does: when each lane brought something last, what is missing, what waits.
SELECT s.id AS "siteId", s.name, s.time_zone AS "timeZone", s.complete_lane AS "completeLane",
       greatest(live.last_time, complete.last_time) AS "lastReading",
       nullif(live.seen_at, '-infinity') AS "liveSeenAt", live.last_time AS "liveLastReading",
       nullif(complete.seen_at, '-infinity') AS "completeSeenAt", complete.last_time AS "completeLastReading",
       extract(epoch FROM now() - live.last_time)::double precision AS "liveLagSeconds",
       extract(epoch FROM now() - complete.last_time)::double precision AS "completeLagSeconds",
       (SELECT count(*) FROM point p WHERE p.site_id = s.id AND p.enabled) AS points,
       (SELECT count(*) FROM gap g WHERE g.site_id = s.id) AS gaps,
       (SELECT coalesce(sum(q.count), 0)::bigint FROM quarantine q WHERE q.site_id = s.id) AS quarantined,
       (SELECT count(*) FROM write_command_status c WHERE c.site_id = s.id AND c.status = 'pending') AS "pendingCommands",
       (SELECT u.subenabled FROM pg_subscription u WHERE u.subname = 'site_' || s.id
        AND u.subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())) AS "subscriptionEnabled",
       (SELECT count(*) > 0 FROM pg_stat_subscription t WHERE t.subname = 'site_' || s.id AND t.pid IS NOT NULL)
           AS "subscriptionWorking",
       (SELECT e.apply_error_count FROM pg_stat_subscription_stats e WHERE e.subname = 'site_' || s.id)
           AS "subscriptionErrors",
       audit.id AS "auditHead", audit.received_at AS "auditSeenAt",
       coalesce(wrong.n, 0) AS "auditContradictions", wrong.newest AS "auditContradiction",
       s.metadata_at AS "metadataAt", r.finished_at AS "comparedAt", r.missing_hours AS "comparedMissingHours",
       r.differing_hours AS "comparedDifferingHours"
FROM site s
LEFT JOIN lane live ON live.site = s.number AND live.name = 'live'
LEFT JOIN lane complete ON complete.site = s.number AND complete.name = 'complete'
LEFT JOIN LATERAL (SELECT * FROM reconciliation r WHERE r.site_id = s.id ORDER BY r.finished_at DESC LIMIT 1) r ON true
LEFT JOIN LATERAL (SELECT k.id, k.received_at FROM site_audit k WHERE k.site_id = s.id
                   ORDER BY k.received_at DESC LIMIT 1) audit ON true
LEFT JOIN LATERAL (
    SELECT count(*) AS n, (array_agg(k.contradiction ORDER BY k.received_at DESC))[1] AS newest FROM site_audit k
    WHERE k.site_id = s.id AND k.contradiction IS NOT NULL
      AND k.received_at > (SELECT coalesce(max(a.at), '-infinity') FROM site_audit_accepted a WHERE a.site_id = s.id)
) wrong ON true
ORDER BY s.id
