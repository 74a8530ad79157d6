"""Role base, as it is felt: by who logs in, by who knocks at a port, by the updates and the journal."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playing import changes, play, told
from testinfra.host import Host

testinfra_hosts = ["ansible://machines"]
CONVERGE = Path(__file__).resolve().parents[1] / "converge.yml"
PATIENCE = 3.0

# A service that says its port to whoever asks, by TCP and by UDP.
LISTENER = """
import socket, sys, threading
port = int(sys.argv[1])
tcp = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.bind(("::", port))
def datagrams():
    while True:
        udp.sendto(str(port).encode(), udp.recvfrom(100)[1])
threading.Thread(target=datagrams, daemon=True).start()
while True:
    with tcp.accept()[0] as asked:
        asked.sendall(str(port).encode())
"""


def address(host: Host) -> str:
    return str(host.ansible.get_variables()["ansible_host"])


def ssh(host: Host, user: str, *command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    variables = host.ansible.get_variables()
    key = variables["ansible_ssh_private_key_file"]
    common = ["-F", "none", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "StrictHostKeyChecking=no"]
    common += [
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "LogLevel=ERROR",
        "-o",
        "ConnectTimeout=20",
        "-o",
        "BatchMode=yes",
    ]
    where = [*common, *options, f"{user}@{address(host)}"]
    return subprocess.run(["ssh", *where, *command], capture_output=True, text=True, check=False)


def ask(where: tuple[object, ...], protocol: str = "tcp") -> str:
    """What the port says: its number, 'refused', or 'silence', which is what a firewall looks like."""
    family = socket.AF_INET6 if ":" in str(where[0]) else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as asking:
        asking.settimeout(PATIENCE)
        try:
            asking.connect(where)
            if protocol == "udp":
                asking.send(b"?")
            return asking.recv(100).decode()
        except TimeoutError:
            return "silence"
        except ConnectionRefusedError:
            return "refused"


@pytest.fixture(scope="module")
def listeners(host: Host) -> Iterator[list[int]]:
    ports = [9997, 9998, 9999, 47808, 47809]
    for port in ports:
        host.run("systemctl stop listener-%s", str(port))
        assert host.run("systemd-run --unit listener-%s python3 -c %s %s", str(port), LISTENER, str(port)).rc == 0
    for port in ports:
        # They do answer: asked on the machine itself, silence would be theirs and not the firewall's.
        asking = f"import socket; print(socket.create_connection(('127.0.0.1', {port}), 3).recv(9).decode())"
        for _ in range(20):
            if host.run("python3 -c %s", asking).stdout.strip() == str(port):
                break
            time.sleep(0.2)
        else:
            pytest.fail(f"the listener on {port} does not answer on its own machine")
    yield ports
    for port in ports:
        host.run("systemctl stop listener-%s", str(port))


# -- who gets in ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("user", ["root", "alice"])
def test_a_password_is_not_even_asked_for(host: Host, user: str) -> None:
    result = ssh(host, user, "true", options=("-o", "PubkeyAuthentication=no"))
    assert result.returncode == 255
    assert "Permission denied (publickey)" in result.stderr  # what is in brackets is all that the server offers


def test_who_has_sudo_has_it_and_who_has_not_has_not(host: Host) -> None:
    assert ssh(host, "alice", "sudo", "--non-interactive", "id", "-un").stdout.strip() == "root"
    assert ssh(host, "bob", "id", "-un").stdout.strip() == "bob"
    assert ssh(host, "bob", "sudo", "--non-interactive", "id", "-un").returncode != 0


def test_a_key_and_a_user_that_are_not_declared_go(host: Host, request: pytest.FixtureRequest) -> None:
    host.run("useradd --create-home mallory")
    stranger = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFfOqQ0VHFOZ0JjN7Q4iyqkGm0eT4xKy7c5yJq0x0AAA x"
    host.run("echo %s >> ~alice/.ssh/authorized_keys", stranger)
    assert changes(play(request, "--tags", "base_users")) == 2
    assert "AAAAIFfOqQ0VH" not in host.file("/home/alice/.ssh/authorized_keys").content_string
    assert not host.user("mallory").exists
    assert not host.file("/home/mallory").exists


def test_nothing_is_forwarded(host: Host) -> None:
    result = ssh(host, "root", options=("-o", "ExitOnForwardFailure=yes", "-W", "127.0.0.1:22"))
    assert "forwarding failed" in result.stderr


def test_wrong_settings_of_sshd_do_not_get_in(host: Host, request: pytest.FixtureRequest) -> None:
    path = "/etc/ssh/sshd_config.d/50-bacpipes.conf"
    before = host.file(path).content_string
    result = play(request, "--tags", "base_ssh", base_ssh_allow_groups=["root\nNoSuchSetting yes"])
    assert result.returncode != 0
    assert "NoSuchSetting" in told(result)
    assert host.file(path).content_string == before


def test_a_file_that_undoes_ours_is_found(host: Host, request: pytest.FixtureRequest) -> None:
    host.run("echo 'PasswordAuthentication yes' > /etc/ssh/sshd_config.d/00-vendor.conf")
    try:
        result = play(request, "--tags", "base_ssh")
    finally:
        host.run("rm /etc/ssh/sshd_config.d/00-vendor.conf; systemctl reload ssh")
    assert result.returncode != 0
    assert "sshd still lets in by password" in told(result)


# -- the firewall -----------------------------------------------------------------------------------------------------
def test_only_what_is_declared_answers(host: Host, listeners: list[int]) -> None:
    where = address(host)
    said = {port: ask((where, port)) for port in (9997, 9998, 9999)}
    assert said == {9997: "silence", 9998: "9998", 9999: "silence"}  # 9997 is open, but for another network
    assert [ask((where, port), "udp") for port in (47808, 47809)] == ["47808", "silence"]
    assert ask((where, 9998), "udp") == "silence"  # the rule is for TCP


def test_ipv6_is_no_back_door(host: Host, listeners: list[int]) -> None:
    link = json.loads(host.check_output("ip -json -6 address show dev eth0 scope link"))[0]["addr_info"][0]["local"]
    route = json.loads(subprocess.check_output(["ip", "-json", "route", "get", address(host)]))[0]
    device = socket.if_nametoindex(route["dev"])
    assert [ask((link, port, 0, device)) for port in (9998, 9999)] == ["silence", "silence"]
    # It is there, at that address: neighbours are let find each other.
    neighbour = json.loads(subprocess.check_output(["ip", "-json", "-6", "neigh", "show", link, "dev", route["dev"]]))
    assert neighbour[0]["lladdr"]


def test_what_is_dropped_is_counted(host: Host, listeners: list[int]) -> None:
    def dropped() -> int:
        listed = json.loads(host.check_output("nft --json list counter inet bacpipes dropped"))
        return next(int(entry["counter"]["packets"]) for entry in listed["nftables"] if "counter" in entry)

    before = dropped()
    ask((address(host), 9999))
    assert dropped() > before


def test_a_rule_opens_and_its_absence_shuts(host: Host, listeners: list[int], request: pytest.FixtureRequest) -> None:
    network = f"{address(host).rpartition('.')[0]}.0/24"
    rule = {"name": "late", "interface": "eth0", "protocol": "tcp", "port": 9999, "from": [network]}
    play(request, "--tags", "base_firewall", base_firewall_rules=[rule])
    assert [ask((address(host), port)) for port in (9998, 9999)] == ["silence", "9999"]
    play(request, "--tags", "base_firewall")
    assert [ask((address(host), port)) for port in (9998, 9999)] == ["9998", "silence"]


def test_other_tables_stay(host: Host, request: pytest.FixtureRequest) -> None:
    host.run("nft add table ip somebody")
    play(request, "--tags", "base_firewall", base_firewall_ping_rate=11)
    play(request, "--tags", "base_firewall")
    assert host.run("nft list table ip somebody").rc == 0
    host.run("nft delete table ip somebody")


def test_rules_that_the_kernel_lost_come_back(host: Host, listeners: list[int], request: pytest.FixtureRequest) -> None:
    host.run("nft delete table inet bacpipes")
    assert ask((address(host), 9999)) == "9999"
    assert changes(play(request, "--tags", "base_firewall")) > 0
    assert ask((address(host), 9999)) == "silence"
    host.run("systemctl restart nftables")  # which flushes everybody's rules
    assert changes(play(request, "--tags", "base_firewall")) in (0, 2)
    assert ask((address(host), 9999)) == "silence"
    host.run("systemctl stop nftables")
    play(request, "--tags", "base_firewall")


# -- what is refused before anything changes --------------------------------------------------------------------------
RULE = {"name": "r", "interface": "eth0", "protocol": "tcp", "port": 80, "from": ["10.0.0.0/24"]}


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"base_admin_networks": ["192.0.2.0/24"]}, "would shut out. Add the network of"),
        ({"base_admin_networks": []}, "so ssh would be shut"),
        ({"base_admin_networks": ["0.0.0.0/0"]}, "lets in everybody"),
        ({"base_firewall_rules": [RULE | {"interface": "eth7"}]}, "interface is one of eth0"),
        ({"base_firewall_rules": [RULE | {"from": ["10.0.0.1/24"]}]}, "'10.0.0.1/24' is not a network"),
        (
            {"base_firewall_rules": [RULE | {"from": ["10.0.0.0/24", "10.0.0.0/25"]}]},
            "'10.0.0.0/25' overlaps '10.0.0.0/24'",
        ),
        ({"base_firewall_rules": [RULE | {"prot": "tcp"}]}, "prot"),
        ({"base_firewall_interfaces": ["eth0", "wan0"]}, "the machine has"),
        ({"base_root_keys": [], "base_users": []}, "nobody could log in afterwards"),
        ({"base_root_keys": ["ssh-ed25519"]}, "is not a public key"),
        ({"base_ssh_permit_root_login": "no"}, "this run logged in as 'root'"),
        ({"base_ssh_allow_users": ["bob"]}, "nobody could log in afterwards"),
        ({"base_sysctl": {"kernel.panic": 1}}, "only net.* belongs to the machine"),
        ({"base_clock_tolerance": 0}, "s from the controller's, base_clock_tolerance is 0"),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(
    host: Host, request: pytest.FixtureRequest, variables: dict[str, object], message: str
) -> None:
    tags = "base_preflight,base_clock"
    before = host.check_output("find /etc -newer /proc/1 -type f | sort | xargs -r md5sum")
    result = play(request, "--tags", tags, **variables)
    assert result.returncode != 0
    assert message in told(result)
    assert str(host.ansible.get_variables()["inventory_hostname"]) in told(result)
    assert host.check_output("find /etc -newer /proc/1 -type f | sort | xargs -r md5sum") == before


# -- updates ----------------------------------------------------------------------------------------------------------
PACKAGE = """
set -e
mkdir -p {repo} && cd {repo}
for name in {names}; do for version in 1 2; do
    mkdir -p $name-$version/DEBIAN
    printf 'Package: %s\\nVersion: %s\\nArchitecture: all\\nMaintainer: x <x@example.org>\\nDescription: x\\n' \
        $name $version \
        > $name-$version/DEBIAN/control
    dpkg-deb --build $name-$version $name-$version.deb
done; dpkg --install $name-1.deb; done
for name in {names}; do
    cat $name-2/DEBIAN/control
    printf 'Filename: ./%s-2.deb\\nSize: %s\\nSHA256: %s\\n\\n' \
        $name $(stat -c %s $name-2.deb) $(sha256sum $name-2.deb | cut -c1-64)
done > Packages
printf 'Origin: Debian\\nLabel: {label}\\nCodename: {codename}\\nSuite: x\\nSHA256:\\n %s %s Packages\\n' \
    $(sha256sum Packages | cut -d' ' -f1) $(stat -c %s Packages) > Release
echo "deb [trusted=yes] file:{repo} ./" >> /etc/apt/sources.list.d/bacpipes-test.list
"""


def test_only_security_is_installed_and_never_an_engine(host: Host) -> None:
    codename = host.check_output(". /etc/os-release; echo $VERSION_CODENAME")
    security = ("docker-test", "bacpipes-test-security")
    other = ("bacpipes-test-other",)
    try:
        for repo, names, label, code in (
            ("/opt/test-security", security, "Debian-Security", f"{codename}-security"),
            ("/opt/test-other", other, "Debian", codename),
        ):
            script = PACKAGE.format(repo=repo, names=" ".join(names), label=label, codename=code)
            made = host.run("sh -c %s", script)
            assert made.rc == 0, made.stderr
        assert host.run("apt-get update").rc == 0
        assert set(security + other) <= set(
            host.check_output("apt list --upgradable 2>/dev/null | cut -d/ -f1").split()
        )
        said = host.run("unattended-upgrade --dry-run --debug").stdout
    finally:
        host.run("rm -rf /etc/apt/sources.list.d/bacpipes-test.list /opt/test-security /opt/test-other")
        host.run("dpkg --purge " + " ".join(security + other))
        host.run("apt-get update")
    line = next(line for line in said.splitlines() if "Packages that will be upgraded:" in line)
    upgraded = set(line.split(":")[-1].split())  # Debian may have updates of its own for the root by now
    assert "bacpipes-test-security" in upgraded
    assert not upgraded & {"docker-test", *other}


def test_the_updates_come_by_themselves_and_do_not_reboot(host: Host) -> None:
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
        assert host.service(timer).is_enabled
        assert host.service(timer).is_running
    dump = host.check_output("apt-config dump")
    for line in (
        'APT::Periodic::Unattended-Upgrade "1";',
        'APT::Periodic::Update-Package-Lists "1";',
        'Unattended-Upgrade::Automatic-Reboot "false";',
    ):
        assert line in dump


# -- journal, time, name ----------------------------------------------------------------------------------------------
def test_the_journal_keeps_its_limit(host: Host) -> None:
    said = host.check_output(
        "journalctl --unit systemd-journald --output cat --no-pager | grep 'System Journal' | tail -1"
    )
    assert "max 64M" in said
    assert host.file("/var/log/journal").is_directory


def test_time_is_utc_and_right(host: Host) -> None:
    assert host.check_output("date +%Z") == "UTC"
    assert abs(float(host.check_output("date +%s.%N")) - time.time()) < 5


def test_the_machine_knows_its_name(host: Host) -> None:
    name = host.ansible.get_variables()["inventory_hostname"].split(".")[0]
    assert host.check_output("hostname") == name
    assert host.check_output("getent hosts %s", name)


def test_kernel_settings_are_in_effect(host: Host) -> None:
    assert host.sysctl("net.ipv4.conf.all.accept_redirects") == 0
    assert host.sysctl("net.ipv4.conf.all.send_redirects") == 0


# -- again ------------------------------------------------------------------------------------------------------------
def test_a_run_cut_off_before_the_reload_is_made_good(host: Host, request: pytest.FixtureRequest) -> None:
    # The file is there, sshd and the journal still run with what was before it.
    for path in ("/etc/ssh/sshd_config.d/50-bacpipes.conf", "/etc/systemd/journald.conf.d/50-bacpipes.conf"):
        host.run("touch --date '+2 seconds' %s", path)
    time.sleep(3)
    assert changes(play(request, "--tags", "base_ssh,base_journal")) == 4  # two found, two handlers
    assert changes(play(request, "--tags", "base_ssh,base_journal")) == 0


def test_check_mode_is_truthful(host: Host, request: pytest.FixtureRequest) -> None:
    assert changes(play(request, "--check", "--diff")) == 0
    assert changes(play(request, "--check", "--diff", base_journal_max_use="65M")) == 1
    assert "64M" in host.file("/etc/systemd/journald.conf.d/50-bacpipes.conf").content_string


def test_after_a_reboot_all_is_as_before(host: Host, listeners: list[int]) -> None:
    host.run("touch /run/before-reboot")
    ssh(host, "root", "systemctl", "reboot")
    deadline = time.monotonic() + 120
    while ssh(host, "root", "test ! -e /run/before-reboot && systemctl is-system-running --wait").returncode:
        assert time.monotonic() < deadline, ssh(host, "root", "systemctl", "--failed").stdout
        time.sleep(0.5)
    for port in (9998, 9999):
        assert ssh(host, "root", f"systemd-run --unit listener-{port} python3 -c '{LISTENER}' {port}").returncode == 0
    time.sleep(1)
    assert [ask((address(host), port)) for port in (9998, 9999)] == ["9998", "silence"]
