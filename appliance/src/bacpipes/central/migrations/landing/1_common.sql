-- The landing tables: what the lanes bring is inserted there, a row trigger makes readings of it, and the tables stay
-- empty. `central migrate` runs the files of this folder every time, in their order. Every name is qualified: the apply worker of logical replication
-- has an empty search_path; and the triggers fire always, because that worker is a "replica". Nothing that a live
-- message holds may raise an error: Telegraf would lose the whole batch that it came in.

CREATE SCHEMA IF NOT EXISTS landing;

-- {skew} and {ttl} are settings.
CREATE OR REPLACE FUNCTION landing.latest() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE AS
$$ SELECT pg_catalog.now() + interval '{skew} seconds' $$;
CREATE OR REPLACE FUNCTION landing.oldest() RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT timestamptz '2000-01-01 00:00:00+00' $$;

CREATE OR REPLACE FUNCTION public.command_ttl() RETURNS interval LANGUAGE sql IMMUTABLE PARALLEL SAFE AS
$$ SELECT interval '{ttl} seconds' $$;

-- Count what can't become a reading. Bounded: 1000 rows for a site and rule, after that all go on one row.
CREATE OR REPLACE FUNCTION landing.quarantine(site_id text, rule text, subject text, sample text, n bigint DEFAULT 1)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_id bigint;
    about    text := left(quarantine.subject, 300);
BEGIN
    SELECT q.id INTO found_id FROM public.quarantine q
    WHERE q.site_id = quarantine.site_id AND q.rule = quarantine.rule AND q.subject = about
    LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF found_id IS NULL AND (SELECT count(*) FROM (
            SELECT FROM public.quarantine q WHERE q.site_id = quarantine.site_id AND q.rule = quarantine.rule LIMIT 1000
        ) AS known) >= 1000 THEN
        about := '(others)';
        SELECT q.id INTO found_id FROM public.quarantine q
        WHERE q.site_id = quarantine.site_id AND q.rule = quarantine.rule AND q.subject = about
        LIMIT 1 FOR UPDATE SKIP LOCKED;
    END IF;
    IF found_id IS NULL THEN
        INSERT INTO public.quarantine (site_id, rule, subject, sample, count)
        VALUES (quarantine.site_id, quarantine.rule, about, left(quarantine.sample, 1000), n);
    ELSE
        UPDATE public.quarantine q SET count = q.count + n, last_at = now(), sample = left(quarantine.sample, 1000)
        WHERE q.id = found_id;
    END IF;
END $$;

-- A lane has brought something; who finds the row locked leaves it to the other.
CREATE OR REPLACE FUNCTION landing.seen(site_number integer, lane_name text, newest timestamptz) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $$
    UPDATE public.lane SET seen_at = clock_timestamp(), last_time = greatest(last_time, newest)
    WHERE ctid = (SELECT l.ctid FROM public.lane l WHERE l.site = site_number AND l.name = lane_name
                  FOR UPDATE SKIP LOCKED)
$$;

-- Who brings a row may bring it for this site: a site's own role, the subscription to that very site, or our own people.
CREATE OR REPLACE FUNCTION landing.admit(site_id text) RETURNS void LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF current_setting('session_replication_role') = 'replica' THEN
        IF EXISTS (SELECT FROM pg_stat_subscription s
                   WHERE s.pid = pg_backend_pid() AND s.subname <> 'site_' || admit.site_id) THEN
            RAISE EXCEPTION 'the subscription of one site brings rows of site %', admit.site_id
                USING ERRCODE = 'insufficient_privilege';
        END IF;
    ELSIF starts_with(session_user, 'site_') AND session_user <> 'site_' || admit.site_id THEN
        RAISE EXCEPTION 'role % may not bring rows of site %', session_user, admit.site_id
            USING ERRCODE = 'insufficient_privilege';
    END IF;
END $$;

-- The site's number; a site that is not registered is refused as a whole.
CREATE OR REPLACE FUNCTION landing.number_of(site_id text) RETURNS integer LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    found_number integer;
BEGIN
    SELECT s.number INTO found_number FROM public.site s WHERE s.id = number_of.site_id;
    IF found_number IS NULL THEN
        RAISE EXCEPTION 'site % is not registered at central', number_of.site_id
            USING HINT = 'Register it: bacpipes central site add.', ERRCODE = 'foreign_key_violation';
    END IF;
    RETURN found_number;
END $$;
