UPDATE mqtt_config SET
    broker = %(broker)s, port = %(port)s, client_id = %(client_id)s, enabled = %(enabled)s,
    username = %(username)s, password = %(password)s, tls_enabled = %(tls_enabled)s, tls_port = %(tls_port)s,
    ca_certificate = %(ca_certificate)s, client_certificate = %(client_certificate)s, client_key = %(client_key)s,
    protocol = %(protocol)s, write_command_topic = %(write_command_topic)s,
    write_result_topic = %(write_result_topic)s, updated_at = now()
