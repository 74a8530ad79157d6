-- Prints the statements that are missing for one guest: a role that logs in by its machine's certificate alone, and that is a
-- member of the guests' group, or is gone. Asked of the database postgres.
WITH missing (step, statement) AS (
    SELECT 1, format('CREATE ROLE %I LOGIN CONNECTION LIMIT 8 IN ROLE %I', :'guest', :'guests')
    WHERE :'state' = 'present' AND to_regrole(quote_ident(:'guest')) IS NULL
    UNION ALL
    SELECT 2, format('ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 8 PASSWORD NULL', rolname)
    FROM pg_authid WHERE :'state' = 'present' AND rolname = :'guest'
     AND (NOT rolcanlogin OR rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls
          OR rolpassword IS NOT NULL OR rolconnlimit <> 8)
    UNION ALL
    SELECT 3, format('GRANT %I TO %I', :'guests', rolname) FROM pg_roles
    WHERE :'state' = 'present' AND rolname = :'guest' AND NOT pg_has_role(rolname, :'guests', 'MEMBER')
    UNION ALL
    SELECT 4, format('ALTER ROLE %1$I NOLOGIN; SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity '
                     'WHERE usename = %1$L; DROP ROLE %1$I', rolname)
    FROM pg_roles WHERE :'state' = 'absent' AND rolname = :'guest'
)
SELECT statement || ';' FROM missing ORDER BY step, statement;
