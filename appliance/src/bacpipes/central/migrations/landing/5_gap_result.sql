-- Gaps and results come twice as readings do. The trigger inserts by itself, without a conflict, what it was given.
CREATE OR REPLACE FUNCTION landing.take_gap() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_trigger_depth() > 1 THEN
        RETURN NEW;
    END IF;
    PERFORM landing.admit(NEW.site_id), landing.number_of(NEW.site_id);
    INSERT INTO public.gap (site_id, point_ids, since, until, reason, recorded_at, key)
    VALUES (NEW.site_id, NEW.point_ids, NEW.since, NEW.until, NEW.reason, coalesce(NEW.recorded_at, now()),
            md5(NEW.point_ids::text))
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER take_gap BEFORE INSERT ON public.gap FOR EACH ROW EXECUTE FUNCTION landing.take_gap();
ALTER TABLE public.gap ENABLE ALWAYS TRIGGER take_gap;

CREATE OR REPLACE FUNCTION landing.take_result() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF pg_trigger_depth() > 1 THEN
        RETURN NEW;
    END IF;
    PERFORM landing.admit(NEW.site_id), landing.number_of(NEW.site_id);
    INSERT INTO public.write_results AS r (job_id, site_id, point_id, success, executed_at, completed_at, error_message,
        result)
    VALUES (NEW.job_id, NEW.site_id, NEW.point_id, NEW.success, NEW.executed_at, coalesce(NEW.completed_at, now()),
            NEW.error_message, NEW.result)
    ON CONFLICT (job_id, site_id) DO UPDATE SET  -- the live way brings the payload alone
        point_id = coalesce(r.point_id, excluded.point_id), executed_at = coalesce(r.executed_at, excluded.executed_at),
        error_message = coalesce(excluded.error_message, r.error_message)
    WHERE r.point_id IS NULL AND excluded.point_id IS NOT NULL;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER take_result BEFORE INSERT ON public.write_results
    FOR EACH ROW EXECUTE FUNCTION landing.take_result();
ALTER TABLE public.write_results ENABLE ALWAYS TRIGGER take_result;
