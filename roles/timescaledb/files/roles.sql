-- Prints the statements that are missing for roles and database. Asked of the database postgres.
WITH wanted (name) AS (
    VALUES ('bacpipes_owner'), ('bacpipes_worker'), ('bacpipes_exporter'), ('bacpipes_reader')
), limits (name, setting, value) AS (
    VALUES ('bacpipes_reader', 'statement_timeout', :'reader_timeout'),
           ('bacpipes_reader', 'idle_in_transaction_session_timeout', :'reader_timeout'),
           ('bacpipes_reader', 'default_transaction_read_only', 'on')
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
    SELECT 5, format('CREATE DATABASE %I OWNER bacpipes_owner TEMPLATE template0 ENCODING ''UTF8'' '
                     'LOCALE_PROVIDER builtin BUILTIN_LOCALE ''C.UTF-8'' LOCALE ''C''', :'database')
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database')
    UNION ALL
    SELECT 6, format('ALTER DATABASE %I OWNER TO bacpipes_owner', datname)
    FROM pg_database WHERE datname = :'database' AND datdba IS DISTINCT FROM to_regrole('bacpipes_owner')
)
SELECT statement || ';' FROM missing ORDER BY step, statement;
