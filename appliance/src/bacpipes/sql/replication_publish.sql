-- What central takes by logical replication: inserts only, so that trimming the log is nobody's business but the site's.
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_publication WHERE pubname = 'bacpipes') THEN
        CREATE PUBLICATION bacpipes WITH (publish = 'insert');
    END IF;
    ALTER PUBLICATION bacpipes SET (publish = 'insert');
    ALTER PUBLICATION bacpipes SET TABLE reading_batch, site_metadata,
        site_audit (site_id, id, hash, before_id, before_hash, at), gap (site_id, point_ids, since, until, reason, recorded_at),
        write_results (job_id, site_id, point_id, success, executed_at, completed_at, error_message, result);
END $$
