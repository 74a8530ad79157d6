-- Prints the statements that are missing for the database: nobody connects, nor makes anything in it, who is not named
-- here. What each role may do with the tables is the appliance's to say (`bacpipes migrate`). Asked of the database itself.
WITH access (name, privilege) AS (
    SELECT name, 'CONNECT' FROM string_to_table(:'roles' || ' ' || :'guests', ' ') AS name WHERE name NOT IN (:'owner', '')
    UNION ALL
    SELECT name, 'TEMPORARY' FROM string_to_table(:'temporary', ' ') AS name
    UNION ALL
    SELECT name, 'CREATE' FROM string_to_table(:'subscribers', ' ') AS name WHERE name <> '' -- CREATE SUBSCRIPTION asks for it
), granted AS (
    SELECT a.grantee, a.privilege_type
    FROM pg_database, aclexplode(coalesce(datacl, acldefault('d', datdba))) AS a WHERE datname = current_database()
), missing (step, statement) AS (
    SELECT 1, format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database())
    WHERE EXISTS (SELECT FROM granted WHERE grantee = 0)
    UNION ALL
    SELECT 2, format('REVOKE %s ON DATABASE %I FROM %s', privilege_type, current_database(), grantee::regrole)
    FROM granted LEFT JOIN access ON to_regrole(name) = grantee AND privilege = privilege_type
    WHERE name IS NULL AND grantee::regrole::text = ANY(string_to_array(:'roles' || ' ' || :'guests', ' '))
     AND grantee <> :'owner'::regrole
    UNION ALL
    SELECT 3, format('GRANT %s ON DATABASE %I TO %I', privilege, current_database(), name) FROM access
    WHERE NOT EXISTS (SELECT FROM granted WHERE grantee = to_regrole(name) AND privilege_type = privilege)
    UNION ALL
    SELECT 4, 'REVOKE ALL ON SCHEMA public FROM PUBLIC'
    FROM pg_namespace WHERE nspname = 'public'
     AND EXISTS (SELECT FROM aclexplode(coalesce(nspacl, acldefault('n', nspowner))) AS a WHERE a.grantee = 0)
)
SELECT statement || ';' FROM missing ORDER BY step, statement;
