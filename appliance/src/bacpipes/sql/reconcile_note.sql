INSERT INTO reconciliation (since, until, site_rows, central_rows, missing_hours, sent_rows, differing_hours)
VALUES (%(since)s, %(until)s, %(site_rows)s, %(central_rows)s, %(missing_hours)s, %(sent_rows)s, %(differing_hours)s)
