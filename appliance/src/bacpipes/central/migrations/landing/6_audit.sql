-- The heads of a site's audit chain. Each comes with the hash that the record of the head before has at the site now: a
-- chain that was made anew has another one there. What contradicts is stored too, with what is wrong, and stays open
-- until somebody accepts it (`bacpipes central site audit`); what came before that is not compared any more.
CREATE OR REPLACE FUNCTION landing.audit_since(of_site text) RETURNS timestamptz LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(max(a.at), '-infinity') FROM public.site_audit_accepted a WHERE a.site_id = of_site
$$;

CREATE OR REPLACE FUNCTION landing.audit_hash_of(of_site text, record bigint) RETURNS bytea LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp AS $$
    SELECT k.hash FROM public.site_audit k
    WHERE k.site_id = of_site AND k.id = record AND k.received_at > landing.audit_since(of_site)
    ORDER BY k.received_at DESC LIMIT 1
$$;

CREATE OR REPLACE FUNCTION landing.take_audit_head() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    newest public.site_audit;
    before bytea;
    same   bytea;
BEGIN
    PERFORM landing.admit(NEW.site_id), landing.number_of(NEW.site_id);
    PERFORM pg_advisory_xact_lock(hashtext('bacpipes site_audit ' || NEW.site_id));  -- two lanes may bring heads at once
    SELECT * INTO newest FROM public.site_audit k
    WHERE k.site_id = NEW.site_id AND k.received_at > landing.audit_since(NEW.site_id)
    ORDER BY k.received_at DESC LIMIT 1;
    before := landing.audit_hash_of(NEW.site_id, NEW.before_id);
    same := landing.audit_hash_of(NEW.site_id, NEW.id);
    NEW.received_at := clock_timestamp();
    NEW.contradiction := CASE
        WHEN before IS NOT NULL AND NEW.before_hash IS NULL THEN format('record %s is gone', NEW.before_id)
        WHEN before <> NEW.before_hash THEN format('record %s has another hash than before', NEW.before_id)
        WHEN same <> NEW.hash THEN format('record %s has another hash than before', NEW.id)
        WHEN NEW.id < newest.id THEN format('record %s is gone: the chain ends at %s', newest.id, NEW.id)
    END;
    IF newest.id = NEW.id AND newest.hash = NEW.hash
       AND (NEW.contradiction IS NULL OR NEW.contradiction = newest.contradiction) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER take_audit_head BEFORE INSERT ON public.site_audit
    FOR EACH ROW EXECUTE FUNCTION landing.take_audit_head();
ALTER TABLE public.site_audit ENABLE ALWAYS TRIGGER take_audit_head;

-- The record of the newest head that central has of a site, or NULL: the site says its hash with the next one.
CREATE OR REPLACE FUNCTION public.audit_head_known(of_site text) RETURNS bigint LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM landing.admit(of_site);
    RETURN (SELECT k.id FROM public.site_audit k
            WHERE k.site_id = of_site AND k.received_at > landing.audit_since(of_site)
            ORDER BY k.received_at DESC LIMIT 1);
END $$;
