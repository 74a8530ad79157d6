"""The declared checks, in the order of the report. A check that is not here does not run; one that is here must."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """``name`` is the test function's, without ``test_``; a ``late`` one goes on beside others and is asked last."""

    name: str
    title: str
    intrusive: bool = False
    late: bool = False


CHECKS = (
    Check("services_run", "All services run and are healthy"),
    Check("sensor_write_refused", "A write to a sensor is refused"),
    Check("readings_in_database", "A fresh reading of every device is in the database"),
    Check("readings_on_broker", "A fresh reading of every device is on the broker, as specified"),
    Check("readings_agree", "The broker and the database tell the same"),
    Check("central_live", "A fresh reading comes to central by the live lane"),
    Check("central_complete", "Central has every fresh reading of the site, as the site has it"),
    Check("central_hostile", "Central takes nothing from this site in another one's name"),
    Check("setpoint_write", "A setpoint can be written, read back and released", late=True),
    Check("compression", "Old readings are compressed"),
    Check("retention", "Readings older than the retention are dropped, and no others"),
    Check("broker_refuses_strangers", "The broker refuses anonymous clients and wrong passwords"),
    Check("broker_certificates", "The broker's TLS port takes our certificates only"),
    Check(
        "database_refuses_strangers", "The database refuses wrong passwords, and connections without TLS from outside"
    ),
    Check("http_needs_token", "The web interface refuses who has no token"),
    Check("http_answers", "The web interface is ready and exports readings"),
    Check("ports", "Only the declared ports answer, seen from the controller"),
    Check("bacnet_port_closed", "BACnet does not answer on the site's LAN address"),
    Check("secrets_unreadable", "Secrets are readable by their owner only"),
    Check("secrets_untold", "No secret stands in a process list, a container's settings or a log"),
    Check("containers_hardened", "Containers run without root, capabilities and a writable root"),
    Check("certificate", "The site's certificate is the right one and in date"),
    Check("clock", "The clock is right"),
    Check("updates", "Security updates are installed by themselves"),
    Check("worker_crash", "The worker comes back after a crash and loses no read unrecorded", intrusive=True),
    Check("worker_killed", "The worker comes back after `docker kill`", intrusive=True),
    Check("stack_restart", "The stack comes back after a restart of Docker", intrusive=True),
    Check("machine_reboot", "The stack comes back after a reboot of the machine", intrusive=True),
)


def declared(intrusive: bool) -> tuple[Check, ...]:
    """The checks that every site must have a result of."""
    return tuple(check for check in CHECKS if intrusive or not check.intrusive)
