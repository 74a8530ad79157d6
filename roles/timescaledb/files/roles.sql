-- Prints the statements that are missing for roles and database. Asked of the database postgres.
WITH wanted (name) AS (
    SELECT string_to_table(:'roles', ' ')
), limits (name, setting, value) AS (
    SELECT reader, setting, value FROM string_to_table(:'readers', ' ') AS reader,
        (VALUES ('statement_timeout', :'reader_timeout'), ('idle_in_transaction_session_timeout', :'reader_timeout'),
                ('default_transaction_read_only', 'on')) AS settings (setting, value)
), missing (step, statement) AS (
    SELECT 1, format('CREATE ROLE %I LOGIN', name) FROM wanted WHERE to_regrole(name) IS NULL
    UNION ALL
    SELECT 2, format('ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', rolname)
    FROM pg_roles JOIN wanted ON rolname = name
    WHERE NOT rolcanlogin OR rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls
    UNION ALL
    SELECT 3, format('REVOKE %s FROM %s', m.roleid::regrole, m.member::regrole)
    FROM pg_auth_members m JOIN wanted ON m.member = to_regrole(name)
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
