"""The backend proxmox, against an imitation of the API. What a real cluster makes of its calls is not shown."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from proxmox_imitation import NODE, TEMPLATES, Imitation

SECRET = "5f0c1d9e-not-to-be-seen-8b7a"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIImitationImitationImitationImitationImit operator"
WIRES = [
    {"name": "eth0", "bridge": "vmbr0", "address": "192.0.2.10/24", "gateway": "192.0.2.1"},
    {"name": "bacnet0", "bridge": "vmbr1", "address": "198.51.100.10/24"},
]


@pytest.fixture(scope="module")
def proxmox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Imitation]:
    imitation = Imitation(tmp_path_factory.mktemp("imitation"), f"ansible@pve!bacpipes={SECRET}")
    threading.Thread(target=imitation.serve_forever, daemon=True).start()
    yield imitation
    imitation.shutdown()


class Role:
    """Plays the role and says what came of it."""

    def __init__(self, folder: Path, proxmox: Imitation) -> None:
        self.folder = folder
        self.variables: dict[str, Any] = {
            # the container is imaginary: its machine is this one
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "lxc_container_backend": "proxmox",
            "lxc_container_host": NODE,
            "lxc_container_id": 105,
            "lxc_container_name": "macau",
            "lxc_container_template": TEMPLATES[0],
            "lxc_container_cores": 2,
            "lxc_container_memory": 2048,
            "lxc_container_disk": 8,
            "lxc_container_interfaces": WIRES,
            "lxc_container_nameservers": ["192.0.2.53", "192.0.2.54"],
            "lxc_container_authorized_keys": [KEY],
            "lxc_container_proxmox_api_host": "localhost",
            "lxc_container_proxmox_api_port": proxmox.port,
            "lxc_container_proxmox_api_user": "ansible@pve",
            "lxc_container_proxmox_api_token_id": "bacpipes",
            "lxc_container_proxmox_api_token_secret": SECRET,
            "lxc_container_proxmox_ca_path": str(proxmox.certificate),
        }
        (folder / "play.yml").write_text(
            "- hosts: macau\n  gather_facts: false\n  roles: [lxc_container]\n", encoding="utf-8"
        )

    def play(self, *options: str, ok: bool = True, **changed: Any) -> tuple[str, int]:
        """The output, and how many tasks changed something."""
        host = self.variables | {f"lxc_container_{key}": value for key, value in changed.items()}
        (self.folder / "hosts.json").write_text(json.dumps({"all": {"hosts": {"macau": host}}}), encoding="utf-8")
        done = subprocess.run(
            ["ansible-playbook", "-i", str(self.folder / "hosts.json"), str(self.folder / "play.yml"), *options],
            capture_output=True,
            text=True,
            env=os.environ | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
        )
        output = done.stdout + done.stderr
        assert SECRET not in output, "the token is in the output"
        assert (done.returncode == 0) == ok, output
        recap = re.search(r"macau\s+: ok=\d+\s+changed=(\d+)", output)
        assert recap, output
        return output, int(recap[1])


@pytest.fixture(scope="module")
def role(tmp_path_factory: pytest.TempPathFactory, proxmox: Imitation) -> Role:
    return Role(tmp_path_factory.mktemp("play"), proxmox)


def test_a_wrong_token_is_refused(role: Role, proxmox: Imitation) -> None:
    output, changed = role.play(ok=False, proxmox_api_token_secret="wrong")
    assert "401" in output
    assert changed == 0
    assert not proxmox.cluster.calls


def test_an_unknown_certificate_is_refused(role: Role, proxmox: Imitation) -> None:
    output, _ = role.play(ok=False, proxmox_ca_path="")
    assert "certificate verify failed" in output.lower()
    assert not proxmox.cluster.calls


def test_a_missing_setting_is_named(role: Role, proxmox: Imitation) -> None:
    output, _ = role.play(ok=False, id=0, proxmox_api_user="ansible")
    assert "macau: the backend proxmox needs" in output
    assert "lxc_container_id" in output
    assert not proxmox.cluster.calls


def test_check_mode_says_and_does_nothing(role: Role, proxmox: Imitation) -> None:
    output, changed = role.play("--check", "--diff")
    assert "would be created as 105 on pve1" in output
    assert changed == 2
    assert not proxmox.cluster.calls


def test_created_as_described(role: Role, proxmox: Imitation) -> None:
    _, changed = role.play("-vvv")
    assert changed == 2  # creation and start
    container = proxmox.cluster.containers[105]
    config = container["config"]
    assert container["status"] == "running"
    assert {
        key: str(config[key])
        for key in ("hostname", "unprivileged", "features", "cores", "memory", "onboot", "nameserver")
    } == {
        "hostname": "macau",
        "unprivileged": "1",
        "features": "nesting=1",
        "cores": "2",
        "memory": "2048",
        "onboot": "1",
        "nameserver": "192.0.2.53 192.0.2.54",
    }
    assert config["rootfs"] == "local-lvm:vm-105-disk-0,size=8G"
    assert re.fullmatch(
        r"name=eth0,bridge=vmbr0,hwaddr=02(:[0-9A-F]{2}){5},ip=192\.0\.2\.10/24,gw=192\.0\.2\.1,type=veth",
        config["net0"],
    )
    assert re.fullmatch(
        r"name=bacnet0,bridge=vmbr1,hwaddr=02(:[0-9A-F]{2}){5},ip=198\.51\.100\.10/24,type=veth", config["net1"]
    )
    assert container["keys"].strip() == KEY


def test_a_second_run_changes_nothing(role: Role, proxmox: Imitation) -> None:
    before = list(proxmox.cluster.calls)
    # Proxmox gives the parts of an entry back in an order of its own
    config = proxmox.cluster.containers[105]["config"]
    config["net0"] = ",".join(sorted(config["net0"].split(",")))
    assert role.play()[1] == 0
    assert role.play("--check", "--diff")[1] == 0
    assert proxmox.cluster.calls == before


def test_it_is_changed_in_place(role: Role, proxmox: Imitation) -> None:
    """More memory and disk; the gateway, the second interface and the name servers go."""
    config = proxmox.cluster.containers[105]["config"]
    before = dict(config)
    change = {"memory": 3072, "disk": 12, "interfaces": [{**WIRES[0], "gateway": ""}], "nameservers": []}
    output, changed = role.play("--check", **change)
    assert "would change" in output
    assert changed == 1
    assert config == before
    assert role.play("-vvv", **change)[1] == 2
    assert str(config["memory"]) == "3072"
    assert config["rootfs"] == "local-lvm:vm-105-disk-0,size=12G"
    assert "net1" not in config
    assert "nameserver" not in config
    # the same card, with its hardware address
    assert set(before["net0"].split(",")) - set(config["net0"].split(",")) == {"gw=192.0.2.1"}
    assert role.play(**change)[1] == 0


def test_the_disk_does_not_shrink(role: Role, proxmox: Imitation) -> None:
    output, changed = role.play(ok=False)
    assert "has a disk of 12 GB (lxc_container_disk: 8)" in " ".join(output.split())
    assert changed == 0
    role.variables["lxc_container_disk"] = 12


def test_what_proxmox_refuses_is_told(role: Role, proxmox: Imitation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxmox_imitation.CONFIG", {"cores"})
    output, _ = role.play("-vvv", ok=False, memory=4096)
    assert "Proxmox refused to change container 105" in output
    assert "Parameter verification failed" in output


def test_another_ones_container_is_left_alone(role: Role, proxmox: Imitation) -> None:
    calls = list(proxmox.cluster.calls)
    output, _ = role.play(ok=False, name="klcc", state="absent")
    assert 'lxc_container_id 105 is the container "macau"' in " ".join(output.split())
    assert proxmox.cluster.calls == calls
    assert 105 in proxmox.cluster.containers


def test_absent_stops_and_removes(role: Role, proxmox: Imitation) -> None:
    del proxmox.cluster.calls[:]
    assert role.play("--check", state="absent")[1] == 1
    assert not proxmox.cluster.calls
    assert role.play("-vvv", state="absent")[1] == 1
    assert 105 not in proxmox.cluster.containers
    assert proxmox.cluster.calls == [f"POST /nodes/{NODE}/lxc/105/status/shutdown", f"DELETE /nodes/{NODE}/lxc/105"]
    assert role.play(state="absent")[1] == 0
