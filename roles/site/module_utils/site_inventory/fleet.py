"""What all sites share, and the secrets."""

import re

from .addresses import check_network_list
from .entry import Site
from .report import Report
from .variables import ABSENT

SHORTEST_PASSWORD = 12  # of a user of the page


def check_fleet(site: Site, report: Report) -> None:
    networks = site.fleet.get("admin_networks")
    check_network_list("fleet.admin_networks", networks or [], report)
    remedy = "Without it nobody could log in after the first run."
    for key in ("admin_networks", "ssh_keys"):
        if site.fleet.get(key) == []:
            report.error(f"fleet.{key}", "is an empty list", remedy)
    for n, key in enumerate(site.fleet.get("ssh_keys") or []):
        if "PRIVATE KEY" in key or not re.match(r"(ssh|ecdsa|sk)-\S+ +[A-Za-z0-9+/=]{40,}", key):
            where = f"fleet.ssh_keys[{n}]"
            report.error(where, "is no public ssh key", "Copy the one line of the file that ends in .pub.")
    if site.get("container.backend") == "proxmox" and not site.fleet.get("proxmox"):
        report.error("fleet.proxmox", "is missing, and backend proxmox needs it", "Write its api_host and so on.")


def check_secrets(site: Site, report: Report) -> None:
    wanted = {"vault_pki_ca_passphrase": "the certificate authority"}
    if site.get("container.backend") == "proxmox":
        wanted["vault_proxmox_token_secret"] = "backend proxmox"  # noqa: S105 - what needs it, not the secret
    for name, use in wanted.items():
        value = site.variables.get(name)
        if not isinstance(value, str) or not value.strip():
            remedy = "`ansible-vault edit group_vars/all/vault.yml` in the inventory; docs/onboarding.md shows how."
            report.error(name, f"is missing, and {use} needs it", remedy)
    page = site.variables.get("vault_page_admin_password", ABSENT)
    if page is not ABSENT and (not isinstance(page, str) or len(page) < SHORTEST_PASSWORD or len(set(page)) < 5):
        what = f"is too short or too simple: {SHORTEST_PASSWORD} characters, 5 of them different, are the least"
        report.error("vault_page_admin_password", what, "Give a longer one, or remove the line.")
