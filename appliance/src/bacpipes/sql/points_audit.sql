INSERT INTO audit (actor, action, subject, detail) VALUES (%(actor)s, 'points.import', %(subject)s, %(detail)s)
