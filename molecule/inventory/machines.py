#!/usr/bin/env python3
"""The machines that Molecule's scenarios run on, as an Ansible inventory.

A program and not a file, for testinfra reads `ansible_host` as it stands, and the addresses depend on the lab
(BACPIPES_TEST_LAB_*).
"""

import ipaddress
import json
import os
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]


def setting(name: str, default: str) -> str:
    return os.environ.get(f"BACPIPES_TEST_LAB_{name}") or default


def nameservers() -> list[str]:
    given = os.environ.get("BACPIPES_TEST_LAB_NAMESERVERS", "").replace(",", " ").split()
    if given:
        return given
    lines = [line.split() for line in Path("/etc/resolv.conf").read_text(encoding="utf-8").splitlines()]
    servers = [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]
    # a resolver of the host's own does not answer in a container
    return [server for server in servers if not ipaddress.ip_address(server).is_loopback]


def inventory() -> dict[str, object]:
    network = ipaddress.ip_network(setting("NETWORK", "10.87.0.0/24"))
    key = (PROJECT / setting("KEY", ".lab/ssh/id_ed25519")).expanduser()
    known_hosts = PROJECT / ".lab" / "molecule" / "known_hosts"

    def machine(number: int, *more: dict[str, str]) -> dict[str, object]:
        wire = {
            "name": "eth0",
            "bridge": setting("BRIDGE", "bp-lan"),
            "address": f"{network[number]}/{network.prefixlen}",
            "gateway": str(network[1]),
        }
        return {"ansible_host": str(network[number]), "lxc_container_interfaces": [wire, *more]}

    # the lab's own central and klcc: the scenarios `central`, `site` and `verify` make them by the operator's playbooks
    def of_the_lab(number: int) -> dict[str, object]:
        known = PROJECT / ".lab" / "known_hosts"
        return {
            "ansible_host": str(network[number]),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={known} -o StrictHostKeyChecking=yes",
            "lxc_container_known_hosts": str(known),
        }

    lab = {"central": of_the_lab(10), "klcc": of_the_lab(22)}
    bacnet = {"name": "bacnet0", "bridge": setting("BACNET_BRIDGE", "bp-mol"), "address": "10.87.40.2/24"}
    return {
        "_meta": {"hostvars": {"appliance": machine(41, bacnet), "second": machine(42), **lab}},
        "all": {
            "vars": {
                "ansible_user": "root",
                "ansible_ssh_private_key_file": str(key),
                "ansible_ssh_common_args": f"-o UserKnownHostsFile={known_hosts} -o StrictHostKeyChecking=yes",
                "ansible_python_interpreter": "/usr/bin/python3",
                "lxc_container_template": str(Path(setting("ROOT", "~/.cache/bacpipes/lab/root.tar.zst")).expanduser()),
                "lxc_container_authorized_keys": [key.with_suffix(".pub").read_text(encoding="utf-8").strip()],
                "lxc_container_known_hosts": str(known_hosts),
                "lxc_container_nameservers": nameservers(),
            }
        },
        # the one machine that the roles' scenarios share
        "machines": {"hosts": ["appliance"], "vars": {"lxc_container_memory": 4096, "lxc_container_disk": 12}},
        # what the scenario lxc_container makes, changes and removes
        "containers": {"hosts": ["second"]},
        "served": {"hosts": ["central"]},
        "onboarded": {"hosts": ["klcc"]},
    }


if __name__ == "__main__":
    print(json.dumps(inventory(), indent=2))
