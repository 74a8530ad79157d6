-- Count and checksum of a site's readings, hour by hour, for `bacpipes reconcile`.
CREATE OR REPLACE FUNCTION public.hour_sums(of_site text, since timestamptz, until timestamptz)
RETURNS TABLE (hour timestamptz, n bigint, checksum numeric) LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM landing.admit(of_site);
    RETURN QUERY
    SELECT date_bin('1 hour', r.time, landing.oldest()), count(*),
           sum(public.reading_checksum(r.point_id, r.time, r.value, r.quality))
    FROM public.reading r
    WHERE r.site = landing.number_of(of_site) AND r.time >= hour_sums.since AND r.time < hour_sums.until
    GROUP BY 1;
END $$;

CREATE OR REPLACE FUNCTION public.report_reconciliation(of_site text, since timestamptz, until timestamptz,
    site_rows bigint, central_rows bigint, missing_hours integer, sent_rows bigint, differing_hours integer)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    PERFORM landing.admit(of_site);
    INSERT INTO public.reconciliation
        (site_id, since, until, site_rows, central_rows, missing_hours, sent_rows, differing_hours)
    VALUES (of_site, report_reconciliation.since, report_reconciliation.until, report_reconciliation.site_rows,
            report_reconciliation.central_rows, report_reconciliation.missing_hours, report_reconciliation.sent_rows,
            report_reconciliation.differing_hours);
    DELETE FROM public.reconciliation r WHERE r.site_id = of_site AND r.finished_at < now() - interval '400 days';
END $$;
