INSERT INTO audit (actor, action, subject, detail) VALUES (%(actor)s, 'mqtt.set', 'mqtt_config', %(detail)s)
