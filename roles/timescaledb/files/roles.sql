-- Prints the statements that are missing for roles and database. Asked of the database postgres.
WITH wanted (name, replicates) AS (
    SELECT name, name = ANY(string_to_array(:'replicas', ' ')) FROM string_to_table(:'roles', ' ') AS name
), membership (role, member, inherit) AS (
    -- who subscribes: may make subscriptions, and lets what they bring land with the owner's rights
    SELECT role, member, role <> :'owner'
    FROM string_to_table(:'subscribers', ' ') AS member, (VALUES ('pg_create_subscription'), (:'owner')) AS roles (role)
    WHERE member <> ''
), limits (name, setting, value) AS (
    SELECT reader, setting, value FROM string_to_table(:'readers', ' ') AS reader,
        (VALUES ('statement_timeout', :'reader_timeout'), ('idle_in_transaction_session_timeout', :'reader_timeout'),
                ('default_transaction_read_only', 'on')) AS settings (setting, value)
), missing (step, statement) AS (
    SELECT 1, format('CREATE ROLE %I LOGIN', name) FROM wanted WHERE to_regrole(name) IS NULL
    UNION ALL
    SELECT 2, format('ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE %s NOBYPASSRLS', name,
                     CASE WHEN replicates THEN 'REPLICATION' ELSE 'NOREPLICATION' END)
    FROM wanted LEFT JOIN pg_roles ON rolname = name
    WHERE NOT rolcanlogin OR rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication <> replicates OR rolbypassrls
       OR rolname IS NULL AND replicates
    UNION ALL
    SELECT 3, format('REVOKE %s FROM %s', m.roleid::regrole, m.member::regrole)
    FROM pg_auth_members m JOIN wanted ON m.member = to_regrole(name)
    WHERE NOT EXISTS (SELECT FROM membership g WHERE g.member = name AND to_regrole(g.role) = m.roleid
                      AND g.inherit = m.inherit_option AND m.set_option AND NOT m.admin_option)
    UNION ALL
    SELECT 8, format('GRANT %I TO %I WITH INHERIT %s', g.role, g.member, g.inherit::text) FROM membership g
    WHERE NOT EXISTS (SELECT FROM pg_auth_members m WHERE m.member = to_regrole(g.member)
                      AND m.roleid = to_regrole(g.role) AND m.inherit_option = g.inherit AND m.set_option
                      AND NOT m.admin_option)
    UNION ALL
    SELECT 4, format('ALTER ROLE %I SET %I = %L', name, setting, value) FROM limits
    WHERE NOT EXISTS (SELECT FROM pg_db_role_setting WHERE setrole = to_regrole(name) AND setdatabase = 0
                      AND setconfig @> ARRAY[setting || '=' || value])
    UNION ALL
    SELECT 5, format('CREATE DATABASE %I OWNER %I TEMPLATE template0 ENCODING ''UTF8'' '
                     'LOCALE_PROVIDER builtin BUILTIN_LOCALE ''C.UTF-8'' LOCALE ''C''', :'database', :'owner')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database')
    UNION ALL
    SELECT 6, format('ALTER DATABASE %I OWNER TO %I', datname, :'owner')
    FROM pg_database WHERE datname = :'database' AND datdba IS DISTINCT FROM to_regrole(:'owner')
    UNION ALL
    SELECT 7, format('CREATE ROLE %I NOLOGIN', :'guests') WHERE :'guests' <> '' AND to_regrole(:'guests') IS NULL
)
SELECT statement || ';' FROM missing ORDER BY step, statement;
