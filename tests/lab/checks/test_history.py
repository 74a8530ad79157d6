"""History is compressed and dropped as declared. One row that is older than the retention is put in, and must go."""

from collections.abc import Callable

from verification.observed import Observed
from verification.outcome import fail, not_verified, wait_for

Observe = Callable[[str], None]

COMMUNITY, APACHE, PLAIN = "timescaledb-community", "timescaledb-apache", "plain"
BUSY_SECONDS = 60  # an export or a backup may hold a lock for a moment


def test_compression(observed: Observed, observe: Observe) -> None:
    engine = _engine(observed)
    if engine != COMMUNITY:
        names = {APACHE: "TimescaleDB under the Apache licence", PLAIN: "plain PostgreSQL"}
        not_verified(f"this engine ({names[engine]}) cannot compress")
    job = _policy(observed, "policy_compression", "compress_after", f"{observed.site.compress_after_hours} hours")
    _put_old_row(observed)
    chunk = _old_chunk(observed)
    if not chunk:
        fail("a chunk with an old row", "none", "is the table `reading` a hypertable? docs/history.md")
    compressed = wait_for(lambda: _run_job(observed, job) and _is_compressed(observed, chunk), BUSY_SECONDS, every=2.0)
    if not compressed:
        remedy = "SELECT * FROM timescaledb_information.job_errors; docs/history.md"
        fail(f"the chunk {chunk} compressed by its policy", "it is not", remedy)
    count = observed.admin(
        "SELECT count(*) FILTER (WHERE is_compressed) AS compressed, count(*) AS chunks "
        "FROM timescaledb_information.chunks WHERE hypertable_name = 'reading'"
    )[0]
    observe(
        f"an old chunk was compressed by the policy (after {observed.site.compress_after_hours} h); "
        f"{count['compressed']} of {count['chunks']} chunks are compressed"
    )


def test_retention(observed: Observed, observe: Observe) -> None:
    engine, keep = _engine(observed), f"{observed.site.retention_days} days"
    job = _policy(observed, "policy_retention", "drop_after", keep) if engine == COMMUNITY else 0
    if engine != COMMUNITY:
        told = observed.container("worker")["environment"].get("BACPIPES_RETENTION_DAYS", "30")
        if told != str(observed.site.retention_days):
            remedy = "run onboard.yml --tags appliance for this site"
            fail(f"BACPIPES_RETENTION_DAYS {observed.site.retention_days}", told, remedy)
    recent = _recent(observed)
    if not recent:
        fail("readings of the last hour", "none", "see the checks of readings")
    _put_old_row(observed)
    if not _old_rows(observed):
        fail("the old row that was just put in", "nothing", "look at the database's log")

    def dropped() -> bool:
        if engine == COMMUNITY:
            _run_job(observed, job)
        else:
            _keep_house(observed, keep)
        return not _old_rows(observed)

    if not wait_for(dropped, BUSY_SECONDS, every=2.0):
        remedy = "docs/history.md, “What the log says”: which session holds a lock?"
        fail(f"what is older than {keep} dropped", f"{_old_rows(observed)} rows are still there", remedy)
    after = _recent(observed)
    if after < recent:
        fail("recent readings untouched", f"{recent} before, {after} after", "stop the worker and restore a backup")
    days = observed.site.retention_days + 2
    observe(f"a row {days} days old was dropped with its chunk; {recent} readings of the last hour stayed ({engine})")


def _engine(observed: Observed) -> str:
    row = observed.admin(
        "SELECT c.relkind AS kind, "
        "to_regprocedure('public.history_maintain(interval, timestamptz)') IS NULL AS by_policy "
        "FROM pg_class c WHERE c.oid = to_regclass('public.reading')"
    )
    if not row:
        fail("the history table", "the database has no table `reading`", "run `bacpipes migrate` on the machine")
    if row[0]["kind"] == "p":
        return PLAIN
    return COMMUNITY if row[0]["by_policy"] else APACHE


def _policy(observed: Observed, name: str, key: str, wanted: str) -> int:
    rows = observed.admin(
        "SELECT job_id, config->>{key} AS value, (config->>{key})::interval = {wanted}::interval AS right "
        "FROM timescaledb_information.jobs "
        "WHERE proc_name = {name} AND hypertable_schema = 'public' AND hypertable_name = 'reading'",
        key=key,
        name=name,
        wanted=wanted,
    )
    if len(rows) != 1 or not rows[0]["right"]:
        seen = ", ".join(str(row["value"]) for row in rows) or "no such policy"
        fail(f"{name} of {wanted}", seen, "run onboard.yml --tags appliance for this site: migrating sets the policies")
    return int(rows[0]["job_id"])


def _run_job(observed: Observed, job: int) -> bool:
    observed.psql("CALL run_job({job})", job=job)
    return True


def _keep_house(observed: Observed, keep: str) -> None:
    """One step after the other, as the worker does."""
    steps = "x"
    while steps:
        try:
            steps = observed.psql("SELECT action, partition FROM public.history_maintain({keep}::interval)", keep=keep)
        except AssertionError as error:
            if "lock" not in str(error):
                raise
            return  # somebody holds a lock: the next look tries again


def _put_old_row(observed: Observed) -> None:
    """A bad reading of an existing point; it never reaches the log that others follow."""
    observed.psql(
        "INSERT INTO public.reading (time, point_id, value, quality, reason) "
        "SELECT now() - make_interval(days => {days}), min(id), NULL, 2, 'verification' FROM public.point",
        days=observed.site.retention_days + 2,
    )


def _old_rows(observed: Observed) -> int:
    rows = observed.admin(
        "SELECT count(*) AS old FROM public.reading WHERE time < now() - make_interval(days => {days})",
        days=observed.site.retention_days + 1,
    )
    return int(rows[0]["old"])


def _recent(observed: Observed) -> int:
    """Readings since an hour before the verification began: their number only grows."""
    rows = observed.admin(
        "SELECT count(*) AS recent FROM public.reading WHERE time > {began} - interval '1 hour'", began=observed.began
    )
    return int(rows[0]["recent"])


def _old_chunk(observed: Observed) -> str:
    rows = observed.admin(
        "SELECT chunk_name FROM timescaledb_information.chunks WHERE hypertable_name = 'reading' "
        "AND range_start <= now() - make_interval(days => {days}) "
        "AND range_end > now() - make_interval(days => {days}, mins => 1) ORDER BY range_start LIMIT 1",
        days=observed.site.retention_days + 2,
    )
    return str(rows[0]["chunk_name"]) if rows else ""


def _is_compressed(observed: Observed, chunk: str) -> bool:
    rows = observed.admin(
        "SELECT is_compressed FROM timescaledb_information.chunks WHERE chunk_name = {chunk}", chunk=chunk
    )
    return bool(rows) and bool(rows[0]["is_compressed"])
