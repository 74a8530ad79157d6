INSERT INTO public.gap (site_id, point_ids, since, until, reason, recorded_at) VALUES (%s, %s, %s, %s, %s, %s)
