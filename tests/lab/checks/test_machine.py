"""The machine and its containers: closed, small, on time."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from testinfra.host import Host

from verification.observed import Observed, some
from verification.outcome import fail, not_verified

Observe = Callable[[str], None]


def test_ports(observed: Observed, observe: Observe) -> None:
    if observed.site.connection.by_jump_host:
        not_verified("the controller reaches this machine by a jump host only: run verify from a machine beside it")
    assert observed.scan is not None
    result = observed.scan.result(timeout=600)
    ssh, address = observed.site.connection.port, observed.site.connection.address
    if ssh not in result.open.get(address, []):
        remedy = "the scan saw nothing; is there a firewall between controller and site?"
        fail(f"at least ssh on {address}:{ssh} answers", "it does not", remedy)
    declared = {*observed.site.ports, ssh}
    for place, found in result.open.items():
        if stray := sorted(set(found) - declared):
            remedy = "`ss -ltnp` on the machine names the program; close it, or declare the port"
            fail(f"only {some(sorted(declared), 20)} answer on {place}", f"{some(stray, 20)} answer, too", remedy)
        observe(
            f"{place}: {some(found, 20)} of {result.looked} ports answer; declared are {some(sorted(declared), 20)}"
        )


def test_bacnet_port_closed(observed: Observed, observe: Observe) -> None:
    site = observed.site
    if site.connection.by_jump_host:
        not_verified("the controller reaches this machine by a jump host only: run verify from a machine beside it")
    assert observed.bacnet is not None
    try:
        answer = observed.bacnet.result(timeout=600)
    except ConnectionRefusedError:
        observe(f"{site.http_address}:{site.bacnet_port}/udp is closed")
        return
    if answer is not None:
        remedy = "bind the worker to the BACnet interface (site.bacnet.address), and close the port in the firewall"
        fail("no BACnet towards the LAN", f"{len(answer)} bytes came back from {site.http_address}", remedy)
    observe(f"no answer from {site.http_address}:{site.bacnet_port}/udp")


def test_secrets_unreadable(observed: Observed, observe: Observe) -> None:
    files = observed.machine.python("secret_files", {"directory": observed.site.directory})
    if len(files) < 2:
        fail("secret files", f"{len(files)} files below {observed.site.secrets}", "run onboard.yml for this site")
    remedy = "run onboard.yml for this site: it sets owner and mode; then renew what was readable (rotate)"
    for file in files:
        if file["nobody_reads"] or int(file["mode"], 8) & 0o077:
            seen = f"{file['path']} has mode {file['mode']}, owner {file['owner']}"
            fail(
                "readable by its owner only",
                seen + ("; the user nobody could read it" if file["nobody_reads"] else ""),
                remedy,
            )
        if file["empty"]:
            fail("a secret", f"{file['path']} is empty", "remove it and run onboard.yml for this site")
    owners = sorted({file["owner"] for file in files})
    modes = some(sorted({file["mode"] for file in files}))
    observe(f"{len(files)} files, modes {modes}, owners {some(owners)}; nobody else could read one")


def test_secrets_untold(observed: Observed, observe: Observe) -> None:
    question = {"directory": observed.site.directory, "project": observed.site.project}
    told = observed.machine.python("secret_traces", question)
    if not told["secrets"] or not told["searched"].get("settings"):
        fail("secrets to look for, and containers to look at", f"{told['searched']}", "run onboard.yml for this site")
    if told["found"]:
        places = [f"{each['secret']} in {each['place']}" for each in told["found"]]
        fail("no secret in sight", some(places), "take it away there, then renew the secret (rotate)")
    searched = ", ".join(f"{count} {kind}" for kind, count in sorted(told["searched"].items()))
    observe(f"{len(told['secrets'])} secret values looked for in {searched}: not found")


def test_containers_hardened(observed: Observed, observe: Observe) -> None:
    containers = [each for each in observed.containers() if each["status"] == "running"]
    if not containers:
        fail("running containers", "none", f"`docker compose ps -a` in {observed.site.directory}")
    problems, processes = [], 0
    for each in containers:
        processes += len(each["processes"])
        problems += [f"{each['service']}: {text}" for text in _weaknesses(each)]
    if problems:
        remedy = (
            f"compare the service's entry in {observed.site.directory} with docs/security.md; was it changed by hand?"
        )
        fail("no root, no capabilities, read-only root, limits", some(problems, 8), remedy)
    observe(
        f"{processes} processes in {len(containers)} containers: none is root, none has a capability or can gain one, "
        "every root is read-only, memory is limited"
    )


def _weaknesses(each: dict[str, Any]) -> list[str]:
    traits = {
        "privileged or with added capabilities": each["privileged"] or each["cap_add"],
        "has Docker's socket": each["docker_socket"],
        "no memory limit": not each["memory"],
        "a writable root": not each["read_only"],
        "no process could be looked at": not each["processes"],
    }
    found = [text for text, is_so in traits.items() if is_so]
    for process in each["processes"]:
        name = f"process {process['name']}"
        if "0" in process["uids"]:
            found.append(f"{name} runs as root")
        if process["capabilities"]:
            found.append(f"{name} has capabilities {process['capabilities']:x}")
        if not process["no_new_privileges"]:
            found.append(f"{name} may gain privileges")
        if process["root"] != "ro":
            found.append(f"{name} sees a writable root")
    return found


def test_certificate(observed: Observed, observe: Observe, host: Host) -> None:
    folder = f"{observed.site.directory}/tls"
    text = observed.machine.run("cat", f"{folder}/server.pem")
    certificate = x509.load_pem_x509_certificate(text.encode())
    left = certificate.not_valid_after_utc - datetime.now(UTC)
    remedy = "run rotate_certs.yml for this site"
    if left.days < observed.site.certificate_days or certificate.not_valid_before_utc > datetime.now(UTC):
        fail(
            f"valid for at least {observed.site.certificate_days} days",
            f"ends {certificate.not_valid_after_utc:%Y-%m-%d}",
            remedy,
        )
    names = _names(certificate)
    if missing := sorted(set(observed.site.certificate_names) - names):
        fail(
            f"the names {some(observed.site.certificate_names)}",
            f"{some(missing)} missing; it has {some(sorted(names))}",
            remedy,
        )
    check = host.run("openssl verify -CAfile %s %s", f"{folder}/ca.pem", f"{folder}/server.pem")
    if check.rc:
        fail("signed by the fleet's CA", (check.stderr or check.stdout).strip().splitlines()[-1], remedy)
    until = f"{certificate.not_valid_after_utc:%Y-%m-%d} ({left.days} days)"
    observe(f"{some(sorted(names))}; valid until {until}; signed by the fleet's CA")


def _names(certificate: x509.Certificate) -> set[str]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    addresses = {str(address) for address in extension.get_values_for_type(x509.IPAddress)}
    return addresses | set(extension.get_values_for_type(x509.DNSName))


def test_clock(observed: Observed, observe: Observe) -> None:
    before = time.time()
    theirs = float(observed.machine.run("date", "+%s.%N"))
    after = time.time()
    offset = theirs - (before + after) / 2
    doubt = (after - before) / 2
    if abs(offset) > observed.site.clock_tolerance + doubt:
        remedy = "is time kept there? `timedatectl`; in a container the host keeps it"
        fail(f"within {observed.site.clock_tolerance:g} s of the controller's clock", f"{offset:+.2f} s", remedy)
    kept = observed.machine.run("timedatectl", "show", "-p", "NTPSynchronized", "--value", check=False).strip()
    observe(f"{offset:+.2f} s from the controller's (± {doubt:.2f} s); synchronised: {kept or 'not known'}")


def test_updates(observe: Observe, host: Host) -> None:
    remedy = "run onboard.yml --tags base for this site"
    if not host.package("unattended-upgrades").is_installed:
        fail("the package unattended-upgrades", "not installed", remedy)
    settings = host.run("apt-config dump").stdout
    for name in ("Update-Package-Lists", "Unattended-Upgrade"):
        if f'APT::Periodic::{name} "1"' not in settings:
            fail(f'APT::Periodic::{name} "1"', "it is off", remedy)
    if "security" not in settings.partition("Unattended-Upgrade::Origins-Pattern")[2]:
        fail("security updates among the origins", "none", remedy)
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
        if not host.service(timer).is_running:
            fail(f"{timer} running", "it is not", remedy)
    observe("security updates daily; both timers are active")
