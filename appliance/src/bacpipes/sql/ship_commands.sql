SELECT payload FROM public.site_commands WHERE site_id = %s ORDER BY created_at, id LIMIT 100
