REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA landing FROM PUBLIC;
REVOKE EXECUTE ON FUNCTION public.hour_sums, public.report_reconciliation, public.release_quarantine,
    public.audit_head_known, public.refresh_aggregates FROM PUBLIC;
