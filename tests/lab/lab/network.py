"""The lab's networks: a bridge that stands for the WAN, and one for each building. Nothing of them survives `down`."""

import json
from pathlib import Path

from lab.plan import BUILDINGS, LAN, LAN_ADDRESS, LAN_BRIDGE, MOLECULE_BRIDGE, RUN
from lab.shell import LabError, run, succeeds

TABLE = "bacpipes_lab"
FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
# What the lab and its playbooks change on this host, and `down` puts back.
SETTINGS = (
    FORWARD,
    Path("/proc/sys/kernel/keys/maxkeys"),
    Path("/proc/sys/kernel/keys/maxbytes"),
    Path("/proc/sys/fs/inotify/max_user_instances"),
    Path("/etc/subuid"),
    Path("/etc/subgid"),
)
ROLE_FILE = Path("/etc/sysctl.d/60-bacpipes-lxc.conf")  # role lxc_container writes it
FORMER = RUN / "former.json"  # what they were before us
BRIDGES = (LAN_BRIDGE, MOLECULE_BRIDGE, *(building.bridge for building in BUILDINGS))


def up() -> None:
    """Bridges, forwarding, and NAT for the machines' package installs."""
    _refuse_foreign_network()
    for bridge in BRIDGES:
        if not _exists(bridge):
            run("ip", "link", "add", bridge, "type", "bridge", "forward_delay", "0")
        run("ip", "link", "set", bridge, "up")
    run("ip", "address", "replace", LAN_ADDRESS, "dev", LAN_BRIDGE)
    if not FORMER.exists():
        RUN.mkdir(parents=True, exist_ok=True)
        FORMER.write_text(json.dumps({str(file): file.read_text() for file in SETTINGS if file.exists()}))
    FORWARD.write_text("1")
    run("nft", "-f", "-", input=_rules())


def down() -> None:
    """Take all of it away, and put forwarding back to what it was."""
    for bridge in BRIDGES:
        if _exists(bridge):
            run("ip", "link", "delete", bridge)
    if succeeds("nft", "list", "table", "ip", TABLE):
        run("nft", "delete", "table", "ip", TABLE)
    if FORMER.exists():
        for file, text in json.loads(FORMER.read_text()).items():
            Path(file).write_text(text)
        FORMER.unlink()
    ROLE_FILE.unlink(missing_ok=True)


def nameservers() -> list[str]:
    """Those of this host that a container can reach too."""
    found: list[str] = []
    for file in (Path("/run/systemd/resolve/resolv.conf"), Path("/etc/resolv.conf")):
        if file.is_file():
            words = (line.split() for line in file.read_text().splitlines())
            found += [word[1] for word in words if len(word) > 1 and word[0] == "nameserver"]
    usable = [server for server in dict.fromkeys(found) if not server.startswith("127.") and ":" not in server]
    if not usable:
        raise LabError("This host's resolv.conf names no server that a container could ask.")
    return usable


def leftovers() -> list[str]:
    """What is still there of the lab's networks."""
    return [bridge for bridge in BRIDGES if _exists(bridge)]


def _rules() -> str:
    """Replaces our own table as a whole; machines reach out through this host, buildings reach nothing."""
    return f"""
table ip {TABLE} {{}}
delete table ip {TABLE}
table ip {TABLE} {{
    chain postrouting {{
        type nat hook postrouting priority srcnat;
        ip saddr {LAN} oifname != "{LAN_BRIDGE}" masquerade
    }}
}}
"""


def _refuse_foreign_network() -> None:
    """Another machine's network that overlaps ours would be cut off."""
    ours = {*BRIDGES}
    for route in json.loads(run("ip", "-j", "-4", "route").stdout or "[]"):
        if route.get("dst", "").startswith("10.87.") and route.get("dev") not in ours:
            raise LabError(f"This host already routes {route['dst']} by {route['dev']}; the lab needs 10.87.0.0/16.")


def _exists(bridge: str) -> bool:
    return Path("/sys/class/net", bridge).exists()
