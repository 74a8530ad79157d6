-- What each role may do (docs/database.md). `bacpipes migrate` runs this at its end, every time, as the owner of the
-- tables; a role that does not exist on this server is passed over. What a role was granted before is taken first, so
-- that what stands here is all that it has.

DO $$
DECLARE
    worker   CONSTANT text := 'bacpipes_worker';
    exporter CONSTANT text := 'bacpipes_exporter';
    reader   CONSTANT text := 'bacpipes_reader';
    central  CONSTANT text := 'bacpipes_replication';
    grantee  text;
    item     text;
BEGIN
    FOR grantee IN SELECT rolname FROM pg_roles WHERE rolname IN (worker, exporter, reader, central) LOOP
        -- Ours only, and the partitioned table as a whole: nobody is granted a partition by itself.
        FOR item IN SELECT c.oid::regclass FROM pg_class c
                    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v')
                      AND NOT c.relispartition AND pg_has_role(c.relowner, 'USAGE') LOOP
            EXECUTE format('REVOKE ALL ON TABLE %s FROM %I', item, grantee);
        END LOOP;
        EXECUTE format('GRANT USAGE ON SCHEMA public TO %I', grantee);
        -- What people query. The views show what lies behind them with their owner's rights.
        EXECUTE format('GRANT SELECT ON bacpipes_schema, device, point, reading, sensor_readings, last_value, gap, '
                       'write_commands, write_results, write_command_status, site_stop, setting, '
                       'audit_head TO %I', grantee);
    END LOOP;

    -- The worker: `bacpipes worker`, and on the command line points, mqtt, token, write and doctor.
    IF to_regrole(worker) IS NOT NULL THEN
        GRANT INSERT, UPDATE         ON device, point               TO bacpipes_worker;  -- never DELETE: history names them
        GRANT INSERT                 ON reading, gap                TO bacpipes_worker;  -- never UPDATE nor DELETE
        GRANT INSERT, UPDATE         ON last_value                  TO bacpipes_worker;
        GRANT SELECT, INSERT, DELETE ON reading_batch               TO bacpipes_worker;
        GRANT SELECT, UPDATE         ON follower                    TO bacpipes_worker;
        GRANT SELECT, INSERT, UPDATE ON published                   TO bacpipes_worker;
        GRANT INSERT                 ON write_commands, write_results TO bacpipes_worker;
        GRANT SELECT, INSERT, UPDATE ON write_claim                 TO bacpipes_worker;
        GRANT SELECT, INSERT, UPDATE, DELETE ON held_slot, due_release TO bacpipes_worker;
        GRANT SELECT, INSERT, UPDATE ON write_pace, source_contact  TO bacpipes_worker;
        GRANT UPDATE                 ON site_stop                   TO bacpipes_worker;  -- `bacpipes stop`
        GRANT SELECT, UPDATE         ON mqtt_config                 TO bacpipes_worker;
        GRANT SELECT, INSERT, UPDATE ON api_token                   TO bacpipes_worker;  -- `bacpipes token`
        GRANT SELECT, INSERT, UPDATE ON app_user, first_user_token  TO bacpipes_worker;  -- `bacpipes user`
        GRANT SELECT, DELETE         ON app_session                 TO bacpipes_worker;
        GRANT SELECT, INSERT         ON audit                       TO bacpipes_worker;  -- never UPDATE nor DELETE
        GRANT SELECT, INSERT, DELETE ON site_metadata               TO bacpipes_worker;
        GRANT SELECT, INSERT         ON reconciliation              TO bacpipes_worker;
        -- Housekeeping drops partitions with its owner's rights; on the Community engine the server does it by itself.
        IF to_regprocedure('history_maintain(interval, timestamptz)') IS NOT NULL THEN
            GRANT EXECUTE ON FUNCTION history_maintain(interval, timestamptz) TO bacpipes_worker;
        END IF;
    END IF;

    -- Central, where it dials the site: the log by replication, and history for `bacpipes central reconcile`.
    IF to_regrole(central) IS NOT NULL THEN
        GRANT SELECT ON reading_batch, site_metadata, site_audit TO bacpipes_replication;
        GRANT SELECT (id, hash) ON audit TO bacpipes_replication;
        GRANT SELECT, INSERT ON reconciliation TO bacpipes_replication;
    END IF;

    -- The exporter reads and queues commands; its page edits points, users, tokens and the broker's settings. Of a user
    -- it can't change the name, of a token nothing but its end; secrets of mqtt_config are sealed with the worker's key.
    IF to_regrole(exporter) IS NOT NULL THEN
        GRANT INSERT                 ON write_commands, audit       TO bacpipes_exporter;
        GRANT SELECT                 ON write_claim, held_slot, due_release, audit TO bacpipes_exporter;
        GRANT INSERT, UPDATE         ON device, point               TO bacpipes_exporter;
        GRANT SELECT, UPDATE         ON mqtt_config                 TO bacpipes_exporter;
        GRANT SELECT, INSERT, UPDATE (revoked_at) ON api_token      TO bacpipes_exporter;
        GRANT SELECT, INSERT, UPDATE (role, password, password_at, disabled_at) ON app_user TO bacpipes_exporter;
        GRANT SELECT, INSERT, DELETE ON app_session                 TO bacpipes_exporter;
        GRANT SELECT, DELETE         ON first_user_token            TO bacpipes_exporter;
        GRANT UPDATE                 ON site_stop                   TO bacpipes_exporter;
        GRANT INSERT, UPDATE, DELETE ON setting                     TO bacpipes_exporter;
    END IF;
END $$;
