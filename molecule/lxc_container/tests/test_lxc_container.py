"""The backend lxc, on one real container that the tests change, break and remove. They run from top to bottom."""

import contextlib
import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from testinfra.host import Host

NAME = "second"
FOLDER = Path("/var/lib/lxc") / NAME
IMAGE = FOLDER / "root.img"
CONVERGE = Path(__file__).parents[1] / "converge.yml"
GIB = 1024**3


def lxc(program: str, *arguments: str) -> str:
    return subprocess.run(
        [f"lxc-{program}", "-n", NAME, *arguments], check=True, capture_output=True, text=True
    ).stdout.strip()


def life() -> str:
    """Process id of the container's init: another one after a restart."""
    return lxc("info", "-p", "-H")


def play(request: pytest.FixtureRequest, *options: str, ok: bool = True, **changed: Any) -> tuple[str, int]:
    """The scenario's own play with other values; the output, and how many tasks changed something."""
    variables = json.dumps({f"lxc_container_{key}": value for key, value in changed.items()})
    done = subprocess.run(
        ["ansible-playbook", "-i", request.config.option.ansible_inventory, str(CONVERGE), "-e", variables, *options],
        capture_output=True,
        text=True,
        env=os.environ | {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"},
    )
    output = done.stdout + done.stderr
    assert (done.returncode == 0) == ok, output
    recap = re.search(rf"{NAME}\s+: ok=\d+\s+changed=(\d+)", output)
    assert recap, output
    return " ".join(output.split()), int(recap[1])


def inventory(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The container's variables."""
    command = ["ansible-inventory", "-i", request.config.option.ansible_inventory, "--host", NAME]
    variables: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return variables


def again(host: Host) -> str:
    """Waits until the container answers by ssh, and says since when its init runs."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return host.check_output("cut -d' ' -f22 /proc/1/stat")
        except RuntimeError:  # what testinfra makes of ssh's own errors
            assert time.monotonic() < deadline, "it did not come back"
            time.sleep(0.5)


def disk(host: Host) -> float:
    """Size of the root in GiB, as the container sees it."""
    return int(host.check_output("stat -f -c '%b' /")) * int(host.check_output("stat -f -c '%S' /")) / GIB


def limit(host: Host) -> int:
    """The memory limit, as the container sees it."""
    file = "memory/memory.limit_in_bytes" if host.file("/sys/fs/cgroup/memory").exists else "memory.max"
    return int(host.check_output(f"cat /sys/fs/cgroup/{file}"))


def quota(host: Host) -> float:
    """CPU time in cores."""
    for file in ("cpu,cpuacct/cpu.cfs_quota_us", "cpu.max"):
        if host.file(f"/sys/fs/cgroup/{file}").exists:
            return int(host.check_output(f"cat /sys/fs/cgroup/{file}").split()[0]) / 100000
    raise AssertionError("the container sees no cpu controller")


def test_the_system_is_whole(host: Host) -> None:
    assert host.check_output("systemctl is-system-running --wait") == "running"
    assert host.check_output("hostname") == NAME
    assert host.run("getent hosts %s", NAME).rc == 0
    assert host.check_output("cat /etc/machine-id") != Path("/etc/machine-id").read_text(encoding="utf-8").strip()


def test_root_is_an_ordinary_user_on_the_host(host: Host) -> None:
    assert host.check_output("cat /proc/self/uid_map").split() == ["0", "1000000", "65536"]
    uid = re.search(r"^Uid:\s+(\d+)", Path(f"/proc/{life()}/status").read_text(encoding="utf-8"), re.MULTILINE)
    assert uid
    assert int(uid[1]) == 1000000
    # and it owns its root all the same
    assert host.check_output("stat -c %u:%g /etc/passwd") == "0:0"
    assert host.run("echo 1 >/proc/sys/kernel/sysrq").rc != 0
    assert host.run("mknod /root/device b 7 0").rc != 0


def test_containers_nest(host: Host) -> None:
    """What Docker does: namespaces of its own, a fresh /proc, an overlay."""
    overlay = "mount -t overlay -o lowerdir=low,upperdir=up,workdir=work overlay all"
    inner = f"cd $(mktemp -d) && mount -t tmpfs none . && mkdir low up work all && {overlay} && echo yes >all/nested"
    assert host.check_output(f"unshare -mpf --mount-proc sh -c '{inner} && cat up/nested && echo $$'").split() == [
        "yes",
        "1",
    ]
    assert host.check_output("unshare -Urm id -u") == "0"


def test_the_limits_hold(host: Host) -> None:
    assert limit(host) == 512 * 1024**2
    assert quota(host) == 1
    assert 1.9 < disk(host) <= 2
    # and they are not the container's to change
    for file in ("memory/memory.limit_in_bytes", "memory.max"):
        host.run(f"echo 1000000000 >/sys/fs/cgroup/{file}")
    assert limit(host) == 512 * 1024**2


def test_the_host_key_is_known_and_its_own(host: Host, request: pytest.FixtureRequest) -> None:
    """Every connection of these tests checks it strictly; another machine with this address would be refused."""
    variables = inventory(request)
    assert "StrictHostKeyChecking=yes" in variables["ansible_ssh_common_args"]
    key = host.check_output("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    lines = Path(variables["lxc_container_known_hosts"]).read_text(encoding="utf-8").splitlines()
    assert f"{variables['ansible_host']} ssh-ed25519 {key}" in lines
    assert len({line.split()[2] for line in lines}) == len({line.split()[0] for line in lines}), (
        "two machines have one key"
    )


def test_it_grows_in_place(host: Host, request: pytest.FixtureRequest) -> None:
    before = life()
    change = {"memory": 640, "cores": 2, "disk": 3}
    output, changed = play(request, "--check", "--diff", **change)
    assert "the disk would grow to 3 GB" in output
    assert "the limits would change" in output
    assert changed > 0
    assert (limit(host), quota(host), IMAGE.stat().st_size) == (512 * 1024**2, 1, 2 * GIB)
    play(request, **change)
    assert (limit(host), quota(host)) == (640 * 1024**2, 2)
    assert 2.9 < disk(host) <= 3
    assert life() == before, "it was restarted"
    assert play(request, **change)[1] == 0


def test_an_interrupted_growth_is_finished(host: Host, request: pytest.FixtureRequest) -> None:
    os.truncate(IMAGE, 4 * GIB)
    assert disk(host) <= 3
    play(request, memory=640, cores=2, disk=4)
    assert 3.9 < disk(host) <= 4


def test_it_does_not_shrink(host: Host, request: pytest.FixtureRequest) -> None:
    output, changed = play(request, ok=False, memory=1024, disk=3)
    assert f"{NAME}: lxc_container_disk is 3 GB, but the disk already has 4 GB" in output
    assert changed == 0
    assert limit(host) == 640 * 1024**2


def test_it_comes_back_after_a_stop(host: Host) -> None:
    before = limit(host), quota(host), disk(host)
    host.check_output("echo kept >/root/kept && sync")
    assert lxc("stop", "-t", "30") == ""
    assert lxc("info", "-s", "-H") == "STOPPED"
    assert not os.path.ismount(FOLDER / "rootfs")
    # it is one of those that the host starts
    assert NAME in subprocess.run(["lxc-autostart", "-L"], check=True, capture_output=True, text=True).stdout.split()
    lxc("start")
    again(host)
    assert host.check_output("cat /root/kept") == "kept"
    assert host.check_output("ip -4 route show default").startswith("default via")
    assert (limit(host), quota(host), disk(host)) == before
    addresses = json.loads(host.check_output("ip -j -4 address show dev eth0"))[0]["addr_info"]
    assert [entry["broadcast"] for entry in addresses] == [re.sub(r"\d+$", "255", addresses[0]["local"])]


def test_it_comes_back_after_a_reboot(host: Host) -> None:
    boot = again(host)
    with contextlib.suppress(RuntimeError):
        host.run("systemctl reboot")
    deadline = time.monotonic() + 60
    while again(host) == boot:
        assert time.monotonic() < deadline, "it did not go down"
    assert host.check_output("cat /root/kept") == "kept"


def test_a_changed_configuration_restarts_it_even_if_a_run_broke_off(
    host: Host, request: pytest.FixtureRequest
) -> None:
    same = {"memory": 640, "cores": 2, "disk": 4}
    before = life()
    play(request, "--tags", "lxc_container_configure", nesting=False, **same)  # written, and no more
    assert life() == before
    play(request, nesting=False, **same)
    assert life() != before
    assert play(request, nesting=False, **same)[1] == 0
    # nothing to do with the configuration on the way back, and name servers are changed without a restart
    play(request, **same)
    before = life()
    play(request, nameservers=["192.0.2.53"], **same)
    assert "nameserver 192.0.2.53" in host.check_output("cat /etc/resolv.conf")
    assert life() == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "Not_a_name"}, 'lxc_container_name is "Not_a_name"'),
        ({"memory": 64}, "lxc_container_memory is 64; it must be at least 128"),
        (
            {"template": "/nowhere.tar", "name": "third"},
            'lxc_container_template "/nowhere.tar" is no file on localhost',
        ),
        (
            {"interfaces": [{"name": "eth0", "bridge": "nobridge", "address": "192.0.2.9/24"}]},
            'there is no bridge "nobridge"',
        ),
        (
            {"interfaces": [{"name": "eth0", "bridge": "lo", "address": "192.0.2.9/24", "gateway": "192.0.3.1"}]},
            'gateway "192.0.3.1"',
        ),
        ({"interfaces": [{"name": "eth0", "bridge": "lo", "address": "192.0.2.900/24"}]}, 'address "192.0.2.900/24"'),
        ({"interfaces": [{"name": "eth0", "bridge": "lo", "adress": "192.0.2.9/24"}]}, "adress"),
        ({"name": "third"}, "another machine answers by ssh"),
    ],
)
def test_bad_input_is_refused_before_anything_changes(
    host: Host, request: pytest.FixtureRequest, change: dict[str, Any], words: str
) -> None:
    output, changed = play(request, ok=False, **{"disk": 4, **change})
    assert words in output
    assert changed == 0
    assert not (FOLDER.parent / "third").exists()


def test_a_strangers_container_is_left_alone(host: Host, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    (tmp_path / NAME / "config").write_text("lxc.uts.name = second\n", encoding="utf-8")
    output, changed = play(request, ok=False, path=str(tmp_path), state="absent")
    assert "that something else made" in output
    assert changed == 0
    assert (tmp_path / NAME / "config").exists()


def test_removed_without_a_trace_and_made_anew_after_a_broken_run(
    host: Host, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    machine = inventory(request)
    known = Path(machine["lxc_container_known_hosts"])
    assert play(request, "--check", state="absent")[1] > 0
    assert lxc("info", "-s", "-H") == "RUNNING"
    play(request, state="absent")
    assert not FOLDER.exists()
    assert str(FOLDER) not in Path("/proc/mounts").read_text(encoding="utf-8")
    assert str(FOLDER) not in subprocess.run(["losetup", "-a"], check=True, capture_output=True, text=True).stdout
    assert NAME not in subprocess.run(["lxc-ls", "-1"], check=True, capture_output=True, text=True).stdout.split()
    assert not list(Path("/sys/fs/cgroup").glob(f"*/lxc.*.{NAME}*")) + list(
        Path("/sys/fs/cgroup").glob(f"lxc.*.{NAME}*")
    )
    assert machine["ansible_host"] not in known.read_text(encoding="utf-8")
    assert play(request, state="absent")[1] == 0

    # A root tarball that ends early is a run that breaks off while it unpacks: the disk stays mounted, half full.
    whole = Path(machine["lxc_container_template"])
    broken = tmp_path / whole.name
    broken.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    output, _ = play(request, ok=False, template=str(broken))
    assert "tar" in output
    assert os.path.ismount(FOLDER / "root.part")
    assert not IMAGE.exists()
    play(request)
    assert not (FOLDER / "root.part").exists()
    assert not (FOLDER / "root.img.part").exists()
    again(host)
    assert host.check_output("systemctl is-system-running --wait") == "running"
    assert not host.file("/root/kept").exists

    # and one that breaks off there can be removed as well
    play(request, state="absent")
    play(request, ok=False, template=str(broken))
    play(request, state="absent")
    assert not FOLDER.exists()
    assert str(FOLDER) not in Path("/proc/mounts").read_text(encoding="utf-8")
