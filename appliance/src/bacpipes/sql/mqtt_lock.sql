SELECT broker, port, client_id, enabled, username, password, tls_enabled, tls_port, ca_certificate, client_certificate,
       client_key, protocol, write_command_topic, write_result_topic
FROM mqtt_config
FOR UPDATE
