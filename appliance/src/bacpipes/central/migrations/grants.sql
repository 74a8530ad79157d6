-- What each role may do at central. `bacpipes central migrate` runs this at its end, every time, as the owner of the
-- tables. What a role was granted before is taken first, so that what stands here is all that it has.

-- Roles that are missing are made where that is allowed; a host's provisioning makes them login roles.
DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['central_service', 'central_dashboard', 'central_training', 'central_telegraf',
                                  'central_replication', 'central_site'] LOOP
        IF to_regrole(wanted) IS NULL
           AND (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) THEN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        END IF;
    END LOOP;
END $$;

DO $$
DECLARE
    grantee text;
    item    text;
BEGIN
    FOR grantee IN SELECT rolname FROM pg_roles WHERE rolname IN ('central_service', 'central_dashboard',
            'central_training', 'central_telegraf', 'central_replication', 'central_site') LOOP
        FOR item IN SELECT c.oid::regclass FROM pg_class c
                    WHERE c.relnamespace IN ('public'::regnamespace, 'landing'::regnamespace)
                      AND c.relkind IN ('r', 'p', 'v') AND NOT c.relispartition AND pg_has_role(c.relowner, 'USAGE') LOOP
            EXECUTE format('REVOKE ALL ON TABLE %s FROM %I', item, grantee);
        END LOOP;
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', grantee);
        EXECUTE format('GRANT SELECT ON bacpipes_schema TO %I', grantee);
    END LOOP;

    -- Those who only look.
    FOR grantee IN SELECT rolname FROM pg_roles
                   WHERE rolname IN ('central_service', 'central_dashboard', 'central_training') LOOP
        EXECUTE format('GRANT SELECT ON site, lane, device, point, reading, sensor_readings, reading_5min, '
                       'reading_hourly, gap TO %I', grantee);
    END LOOP;
    FOR grantee IN SELECT rolname FROM pg_roles WHERE rolname IN ('central_service', 'central_dashboard') LOOP
        EXECUTE format('GRANT SELECT ON quarantine, parked, reconciliation, write_commands, write_results, '
                       'write_command_status, site_audit, site_audit_accepted TO %I', grantee);
    END LOOP;

    -- `bacpipes central serve`: its API and its dispatcher.
    IF to_regrole('central_service') IS NOT NULL THEN
        GRANT INSERT ON write_commands, write_results, audit TO central_service;
        GRANT SELECT ON audit TO central_service;  -- of a command, for GET /api/write/{jobId}
        GRANT SELECT, INSERT, UPDATE ON api_token TO central_service;
        GRANT SELECT ON site_commands TO central_service;
        GRANT EXECUTE ON FUNCTION refresh_aggregates(), release_quarantine(text) TO central_service;
        IF to_regprocedure('history_maintain(interval, timestamptz)') IS NOT NULL THEN
            GRANT EXECUTE ON FUNCTION history_maintain(interval, timestamptz) TO central_service;
        END IF;
    END IF;

    -- Telegraf inserts into its landing table and can do nothing else, not even read it.
    IF to_regrole('central_telegraf') IS NOT NULL THEN
        GRANT USAGE ON SCHEMA landing TO central_telegraf;
        GRANT INSERT ON landing.live TO central_telegraf;
    END IF;

    -- The owner of the subscriptions; it needs pg_create_subscription too, and to be a member of the tables' owner.
    IF to_regrole('central_replication') IS NOT NULL THEN
        GRANT SELECT, INSERT ON reading_batch, site_metadata, gap, write_results, site_audit TO central_replication;
        GRANT SELECT ON site, lane, point, reconciliation TO central_replication;
        GRANT EXECUTE ON FUNCTION hour_sums(text, timestamptz, timestamptz), audit_head_known(text) TO central_replication;
        GRANT EXECUTE ON FUNCTION report_reconciliation(text, timestamptz, timestamptz, bigint, bigint, integer, bigint,
                                                        integer) TO central_replication;
    END IF;

    -- Each site's role is a member. The landing triggers and row-level security hold it to its own rows.
    IF to_regrole('central_site') IS NOT NULL THEN
        GRANT INSERT ON reading_batch, site_metadata, gap, write_results, site_audit TO central_site;
        GRANT SELECT ON site, device, point, write_commands, write_results, site_commands TO central_site;
        GRANT EXECUTE ON FUNCTION hour_sums(text, timestamptz, timestamptz), audit_head_known(text) TO central_site;
        GRANT EXECUTE ON FUNCTION report_reconciliation(text, timestamptz, timestamptz, bigint, bigint, integer, bigint,
                                                        integer) TO central_site;
    END IF;
END $$;
