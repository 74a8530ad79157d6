SELECT s.job_id AS "jobId", s.site_id AS "siteId", s.status, s.point_id AS "pointId", s.command_type AS "commandType",
       s.value, s.priority, s.created_at AS "createdAt", s.expires_at AS "expiresAt", s.executed_at AS "executedAt",
       s.completed_at AS "completedAt", s.error_message AS "error", s.created_by AS "createdBy", s.reason,
       (SELECT r.result FROM write_results r WHERE r.job_id = s.job_id AND r.site_id = s.site_id) AS result,
       (SELECT coalesce(json_agg(json_build_object('at', a.at, 'actor', a.actor, 'action', a.action, 'detail', a.detail)
                                 ORDER BY a.at), '[]') FROM audit a WHERE a.subject = s.job_id) AS audit
FROM write_command_status s WHERE s.job_id = %(job)s
