INSERT INTO public.site_audit (site_id, id, hash, before_id, before_hash, at) VALUES (%s, %s, %s, %s, %s, %s)
