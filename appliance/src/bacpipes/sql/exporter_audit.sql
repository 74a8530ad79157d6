INSERT INTO audit (actor, action, subject, detail) VALUES (%s, %s, %s, %s)
