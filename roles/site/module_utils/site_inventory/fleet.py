"""What all sites share, and the secrets."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .addresses import check_network_list
from .entry import Entry
from .ipv4 import HOST
from .report import Report, shown
from .variables import ABSENT

SHORTEST_PASSWORD = 12  # of a user of the page
SHORTEST_PASSPHRASE = 16  # of the certificate authority, as the role pki asks for it
USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
PUBLIC_KEY = re.compile(
    r"(ssh-(ed25519|rsa)|ecdsa-sha2-nistp(256|384|521)|sk-(ssh-ed25519|ecdsa-sha2-nistp256)@openssh\.com)"
    r" [A-Za-z0-9+/]{40,}=*( [^\n]*)?"
)
# Older ones can stop for ever when their bridge is accepted and then hung up on: docs/broker.md.
OLDEST_MOSQUITTO = (2, 0, 21)
IMAGE = re.compile(r"[a-z0-9][\w./:-]*:(?P<tag>\w[\w.-]*)(?P<digest>@sha256:[0-9a-f]{64})?", re.ASCII)


def check_fleet(site: Entry, report: Report) -> None:
    fleet = site.fleet
    check_network_list("fleet.admin_networks", fleet.get("admin_networks") or [], report)
    remedy = "Without it nobody could log in after the first run."
    for key in ("admin_networks", "ssh_keys"):
        if fleet.get(key) == []:
            report.error(f"fleet.{key}", "is an empty list", remedy)
    _check_keys("fleet.ssh_keys", fleet.get("ssh_keys") or [], report)
    _check_users(fleet.get("users") or [], report)
    _check_controller(fleet, report)
    _check_images(fleet.get("images") or {}, report)
    if site.get("container.backend") == "proxmox":
        _check_proxmox(fleet.get("proxmox") or {}, report)


def _check_keys(path: str, keys: Iterable[str], report: Report) -> None:
    for n, key in enumerate(keys):
        if not PUBLIC_KEY.fullmatch(key):
            report.error(f"{path}[{n}]", "is no public ssh key", "Copy the one line of the file that ends in .pub.")


def _check_users(users: Sequence[Mapping[str, Any]], report: Report) -> None:
    names = [user.get("name") for user in users]
    for n, user in enumerate(users):
        where = f"fleet.users[{n}].name {shown(user.get('name'))}"
        if user.get("name") == "root":
            report.error(where, "is no person", "Root's keys are fleet.ssh_keys.")
        elif user.get("name") is not None and not USER.fullmatch(user["name"]):
            remedy = "Use 1 to 31 of a-z, 0-9, _ and -, a letter first."
            report.error(where, "is no name of an account", remedy)
        elif user.get("name") in names[:n]:
            report.error(where, "stands there twice", "Give each person one entry, with all keys.")
        if not user.get("ssh_keys") and user.get("state") != "absent":
            remedy = "Nobody logs in with a password: give a key."
            report.error(f"fleet.users[{n}].ssh_keys", "is missing or empty", remedy)
        _check_keys(f"fleet.users[{n}].ssh_keys", user.get("ssh_keys") or [], report)


def _check_controller(fleet: Mapping[str, Any], report: Report) -> None:
    engine, folder = fleet.get("docker_host"), fleet.get("pki_folder")
    if engine is not None and not re.match(r"(unix:///|tcp://|ssh://)\S", engine):
        where = f"fleet.docker_host {shown(engine)}"
        report.error(where, "is no address of a Docker engine", "Write one as unix:///var/run/docker.sock.")
    if folder is not None and not folder.startswith("/"):
        where = f"fleet.pki_folder {shown(folder)}"
        report.error(where, "is no absolute path", "Write the controller's folder from / on.")


def _check_images(images: Mapping[str, str], report: Report) -> None:
    """As the role image takes them: by version, so that a machine can keep the one before."""
    for key, name in images.items():
        where = f"fleet.images.{key} {shown(name)}"
        if key == "source" or not isinstance(name, str):
            continue
        if not (image := IMAGE.fullmatch(name)) or image["tag"] in ("latest", "previous"):
            remedy = "Write one as docker.io/library/eclipse-mosquitto:2.0.22, neither latest nor previous."
            report.error(where, "is no image's name with its version", remedy)
        elif image["digest"] and images.get("source") == "ship":
            report.error(
                where, "has a digest, which an image that is shipped loses", "Write it without, or source: pull."
            )
        elif key == "mosquitto" and (was := _version(image["tag"])) and was < OLDEST_MOSQUITTO:
            oldest = ".".join(map(str, OLDEST_MOSQUITTO))
            what = f"is older than {oldest}: a bridge that is hung up on can stop that broker for ever"
            report.error(where, what, f"Give {oldest} or newer.")


def _version(tag: str) -> tuple[int, ...] | None:
    """The numbers that a tag begins with; None where it names no version to the last digit."""
    found = re.match(r"v?(\d+)\.(\d+)\.(\d+)(?![\w.])", tag, re.ASCII)
    return tuple(map(int, found.groups())) if found else None


def _check_proxmox(proxmox: Mapping[str, Any], report: Report) -> None:
    host, port, user = proxmox.get("api_host"), proxmox.get("api_port"), proxmox.get("api_user")
    if not proxmox:
        report.error("fleet.proxmox", "is missing, and backend proxmox needs it", "Write its api_host and so on.")
    if host is not None and not HOST.fullmatch(host):
        where = f"fleet.proxmox.api_host {shown(host)}"
        report.error(where, "is neither a name nor an address", "Write it without https:// and without a port.")
    if port is not None and not 1 <= port <= 65535:
        report.error(f"fleet.proxmox.api_port {port}", "is not from 1 to 65535", "Correct the number.")
    if user is not None and not re.fullmatch(r"[^@\s!]+@[^@\s!]+", user):
        where = f"fleet.proxmox.api_user {shown(user)}"
        report.error(where, "names no realm", "Write it as ansible@pve; the token's name is api_token_id.")


def check_secrets(site: Entry, report: Report) -> None:
    wanted = {"vault_pki_ca_passphrase": "the certificate authority"}
    if site.get("container.backend") == "proxmox":
        wanted["vault_proxmox_token_secret"] = "backend proxmox"  # noqa: S105 - what needs it, not the secret
    for name, use in wanted.items():
        value = site.variables.get(name)
        if name in report.unread:
            continue
        if not isinstance(value, str) or not value.strip():
            remedy = "`ansible-vault edit group_vars/all/vault.yml` in the inventory; docs/onboarding.md shows how."
            report.error(name, f"is missing, and {use} needs it", remedy)
        elif name == "vault_pki_ca_passphrase" and len(value) < SHORTEST_PASSPHRASE:
            report.error(name, f"has fewer than {SHORTEST_PASSPHRASE} characters", "Write a longer one into the vault.")
    page = site.variables.get("vault_page_admin_password", ABSENT)
    if page is not ABSENT and (not isinstance(page, str) or len(page) < SHORTEST_PASSWORD or len(set(page)) < 5):
        what = f"is too short or too simple: {SHORTEST_PASSWORD} characters, 5 of them different, are the least"
        report.error("vault_page_admin_password", what, "Give a longer one, or remove the line.")
