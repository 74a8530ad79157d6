SELECT public.report_reconciliation(%(site)s, %(since)s, %(until)s, %(site_rows)s, %(central_rows)s, %(missing_hours)s,
                                    %(sent_rows)s, %(differing_hours)s)
