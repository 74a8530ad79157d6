-- Files that changed since the server last read them, to the second; and lines in them that it refuses.
SELECT 'unread ' || path
FROM (SELECT current_setting(name) FROM unnest(ARRAY['config_file', 'hba_file', 'ident_file', 'ssl_cert_file', 'ssl_key_file',
                                                     'ssl_ca_file', 'ssl_crl_file']) AS name) AS files (path),
     pg_stat_file(path, true) AS file
WHERE path <> '' AND file.change >= date_trunc('second', pg_conf_load_time())
UNION ALL
SELECT 'error ' || sourcefile || ' line ' || sourceline || coalesce(' (' || name || ')', '') || ': ' || error
FROM pg_file_settings WHERE error IS NOT NULL AND error <> 'setting could not be applied'
UNION ALL
SELECT 'error ' || file_name || ' line ' || line_number || ': ' || error FROM pg_hba_file_rules WHERE error IS NOT NULL
UNION ALL
SELECT 'error ' || file_name || ' line ' || line_number || ': ' || error FROM pg_ident_file_mappings WHERE error IS NOT NULL;
