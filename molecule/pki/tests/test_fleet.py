"""What happens to a fleet over the years: renewal, change-over of the CA, revocation, mistakes.

The machines are directories of this host, so that a step takes seconds; the handshakes are real ones.
"""

import os
import re
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from handshake import End, shake

ROOT = Path(__file__).parents[3]
PASSPHRASE = "only-for-this-test-4711"
BEFORE, BOTH, AFTER = ["ca-1"], ["ca-1", "ca-2"], ["ca-2"]

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the role gives files to root")


class Fleet:
    """Machines a, b, … and their controller, all under one directory."""

    def __init__(self, directory: Path, *names: str) -> None:
        self.directory = directory
        self.ca = directory / "pki"
        self.common: dict[str, object] = {"pki_ca_passphrase": PASSPHRASE, "pki_ca_dir": str(self.ca)}
        self.hosts: dict[str, dict[str, object]] = {name: {} for name in names}

    def play(self, *arguments: str, part: str = "main", fails: bool = False, **variables: object) -> str:
        """Play the role once; what it printed."""
        local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        own = {
            "pki_dir": f"{self.directory}/{{{{ inventory_hostname }}}}/tls",
            "pki_server_names": ["{{ inventory_hostname }}"],
        }
        common = local | own | self.common | variables
        inventory = {"all": {"vars": common, "hosts": self.hosts}}
        (self.directory / "hosts.yml").write_text(yaml.safe_dump(inventory))
        role = {"name": "Play", "ansible.builtin.import_role": {"name": "pki", "tasks_from": part}}
        play = {"name": "Fleet", "hosts": "all", "gather_facts": False, "tasks": [role]}
        (self.directory / "play.yml").write_text(yaml.safe_dump([play]))
        done = subprocess.run(
            [sys.executable, "-m", "ansible", "playbook", "-i", "hosts.yml", "play.yml", *arguments],
            cwd=self.directory,
            env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_ROLES_PATH": str(ROOT / "roles")},
            capture_output=True,
            text=True,
        )
        output = done.stdout + done.stderr
        assert (done.returncode != 0) is fails, output
        assert PASSPHRASE not in output
        return output

    def changed(self, *arguments: str, **variables: object) -> int:
        """Play the role once; how many tasks changed something."""
        return sum(map(int, re.findall(r"changed=(\d+)", self.play(*arguments, **variables))))

    def tls(self, name: str) -> Path:
        return self.directory / name / "tls"

    def end(self, name: str, kind: str, *, check: bool = False) -> End:
        tls = self.tls(name)
        return End(tls / f"{kind}.pem", tls / f"{kind}.key", tls / "ca.pem", tls / "crl.pem" if check else None)

    def keep(self, name: str) -> "Fleet":
        """A copy of a machine's files, as a peer that was not reached, or a thief, has them."""
        shutil.copytree(self.directory / name, self.directory / f"{name}-before")
        return self

    def talk(self, server: str, client: str, *, check: bool = False) -> str:
        name = server.removesuffix("-before")
        return shake(self.end(server, "server", check=check), self.end(client, "client"), name)

    def serial(self, name: str, kind: str) -> str:
        certificate = x509.load_pem_x509_certificate((self.tls(name) / f"{kind}.pem").read_bytes())
        return f"{certificate.serial_number:040X}"

    def days_left(self, name: str, kind: str) -> int:
        certificate = x509.load_pem_x509_certificate((self.tls(name) / f"{kind}.pem").read_bytes())
        return round((certificate.not_valid_after_utc - datetime.now(UTC)) / timedelta(days=1))

    def files(self) -> dict[str, bytes]:
        held = [*self.ca.rglob("*"), *(path for name in self.hosts for path in self.tls(name).rglob("*"))]
        return {str(path.relative_to(self.directory)): path.read_bytes() for path in held if path.is_file()}


def test_many_machines_at_once_get_one_ca_and_a_second_run_changes_nothing(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, *"abcd")
    assert fleet.changed("--check", "--diff") > 0
    assert fleet.files() == {}, "a check writes nothing"
    fleet.play("-vvv")
    assert len({(fleet.tls(name) / "ca.pem").read_bytes() for name in fleet.hosts}) == 1
    rows = (fleet.ca / "index.csv").read_text().splitlines()
    assert len(rows) == 1 + 8
    assert len({row.split(",")[3] for row in rows[1:]}) == 8
    assert fleet.talk("a", "d", check=True) == ""
    before = fleet.files()
    assert fleet.changed() == 0
    assert fleet.changed("--check", "--diff") == 0
    assert fleet.files() == before


def test_change_over_to_a_new_ca(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, "a", "b")
    fleet.play(pki_ca_trusted=BEFORE)
    fleet.keep("a")
    assert fleet.talk("a", "b", check=True) == ""

    # No step can be left out.
    assert "holds none of the CAs" in fleet.play(pki_ca_trusted=AFTER, pki_ca_generation="ca-2", fails=True)
    assert "does not hold the CA" in fleet.play(pki_ca_trusted=BOTH, pki_ca_generation="ca-2", fails=True)

    # Step 1: both trust both, certificates stay.
    old = {name: fleet.serial(name, "server") for name in fleet.hosts}
    fleet.play(pki_ca_trusted=BOTH)
    assert {name: fleet.serial(name, "server") for name in fleet.hosts} == old
    assert fleet.talk("a", "b", check=True) == fleet.talk("b", "a", check=True) == ""

    # Step 2 has reached b only.
    fleet.play("-l", "b", pki_ca_trusted=BOTH, pki_ca_generation="ca-2")
    assert fleet.serial("b", "server") != old["b"]
    assert fleet.talk("a", "b", check=True) == fleet.talk("b", "a", check=True) == ""
    assert fleet.talk("a-before", "b").startswith("server: self-signed certificate in certificate chain")
    assert fleet.talk("b", "a-before").startswith("client: self-signed certificate in certificate chain")

    # Step 3 must wait for a.
    text = fleet.play(pki_ca_trusted=AFTER, pki_ca_generation="ca-2", fails=True)
    assert "a-client.pem, a-server.pem" in text
    fleet.play(pki_ca_trusted=BOTH, pki_ca_generation="ca-2")
    fleet.play(pki_ca_trusted=AFTER, pki_ca_generation="ca-2")
    assert fleet.talk("a", "b", check=True) == fleet.talk("b", "a", check=True) == ""
    assert fleet.talk("b", "a-before") != "", "the old CA is good for nothing now"
    assert fleet.changed(pki_ca_trusted=AFTER, pki_ca_generation="ca-2") == 0


def signed(fleet: Fleet, name: str, kind: str, began: timedelta, ends: timedelta) -> None:
    """Sign a machine's certificate again with other times, as if those had passed."""
    key = load_pem_private_key((fleet.ca / "ca-1/ca.key").read_bytes(), PASSPHRASE.encode())
    path = fleet.tls(name) / f"{kind}.pem"
    old = x509.load_pem_x509_certificate(path.read_bytes())
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        old.issuer, old.subject, old.public_key(), x509.random_serial_number(), now + began, now + ends
    )
    for extension in old.extensions:
        builder = builder.add_extension(extension.value, extension.critical)
    path.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))  # type: ignore[arg-type]


def test_what_is_expired_revoked_or_for_another_purpose_is_refused(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, "a", "b")
    fleet.play()
    # The one certificate for the other purpose, either way round.
    crossed = fleet.end("b", "server")
    assert shake(fleet.end("a", "server"), crossed, "a").startswith("server: unsuitable certificate purpose")
    assert shake(fleet.end("a", "client"), fleet.end("b", "client"), "a").startswith("client: unsuitable certificate")
    assert shake(fleet.end("a", "server"), fleet.end("b", "client"), "b").startswith("client: Hostname mismatch")
    day = timedelta(days=1)
    signed(fleet, "b", "client", -9 * day, day)
    assert fleet.talk("a", "b") == "", "signed again, it is as good as before"
    signed(fleet, "b", "client", -9 * day, -day)
    assert fleet.talk("a", "b") == "server: certificate has expired"
    signed(fleet, "a", "server", -9 * day, -day)
    assert fleet.talk("a", "b") == "client: certificate has expired"

    # As the controller issued them. Then one is stolen, revoked, and replaced by a run.
    shutil.copyfile(fleet.ca / "issued/b-client.pem", fleet.tls("b") / "client.pem")
    shutil.copyfile(fleet.ca / "issued/a-server.pem", fleet.tls("a") / "server.pem")
    fleet.keep("b")
    assert fleet.talk("a", "b-before", check=True) == ""
    stolen = fleet.serial("b", "client")
    revoked = [{"serial": stolen, "date": "2026-01-31", "reason": "key_compromise"}]
    fleet.play(pki_revoked=revoked)
    assert fleet.talk("a", "b-before", check=True) == "server: certificate revoked"
    assert fleet.serial("b", "client") != stolen
    assert (fleet.tls("b") / "client.key").read_bytes() != (fleet.tls("b-before") / "client.key").read_bytes()
    assert fleet.talk("a", "b", check=True) == ""
    assert fleet.changed(pki_revoked=revoked) == 0
    by_file = [revoked[0] | {"certificate": f"b-client-{stolen}.pem"}]
    del by_file[0]["serial"]
    assert fleet.changed(pki_revoked=by_file) == 0, "the same said in another way"


def test_renewal_by_age_names_and_order(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, "a")
    fleet.play(pki_days=30, pki_renew_before_days=5, pki_renew_jitter_days=5)
    assert fleet.days_left("a", "server") == 30
    assert fleet.changed(pki_renew_before_days=5, pki_renew_jitter_days=5) == 0, "a longer life alone renews nothing"
    before = fleet.files()
    fleet.play()
    assert fleet.days_left("a", "server") == fleet.days_left("a", "client") == 398
    after = fleet.files()
    assert all(after[f"a/tls/{kind}.key"] != before[f"a/tls/{kind}.key"] for kind in ("server", "client"))
    # Another name: a new server certificate, and the client's stays.
    serials = {kind: fleet.serial("a", kind) for kind in ("server", "client")}
    more = {"pki_server_names": ["{{ inventory_hostname }}", "192.0.2.7"]}
    fleet.play(**more)
    assert fleet.serial("a", "server") != serials["server"]
    assert fleet.serial("a", "client") == serials["client"]
    assert shake(fleet.end("a", "server"), fleet.end("a", "client"), "192.0.2.7") == ""
    # On order, everything.
    fleet.play(pki_renew_now=True, **more)
    assert fleet.serial("a", "client") != serials["client"]
    assert len((fleet.ca / "index.csv").read_text().splitlines()) == 1 + 2 + 2 + 1 + 2


STOP = """
import os, signal
from ansible.plugins.callback import CallbackBase
class CallbackModule(CallbackBase):
    CALLBACK_VERSION, CALLBACK_TYPE, CALLBACK_NAME = 2.0, "aggregate", "stop"
    def v2_runner_on_ok(self, result):
        if result.task.name.endswith(os.environ["STOP_AFTER"]):
            os.killpg(0, signal.SIGKILL)
"""


def test_a_run_that_was_killed_can_be_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet(tmp_path, "a")
    for task in (
        "Make the CA's key, encrypted",
        "Make the CA's certificate",
        "Make the keys",
        "Sign",
        "the bundle of CAs",
    ):
        killed(fleet, task, monkeypatch)
    fleet.play()
    assert fleet.talk("a", "a", check=True) == ""
    # The same while it renews: the machine has new keys and old certificates, or new certificates that no one recorded.
    for task in ("Make the keys", "Sign"):
        killed(fleet, task, monkeypatch, pki_renew_now=True)
    fleet.play()
    assert fleet.talk("a", "a", check=True) == ""
    assert fleet.changed() == 0
    recorded = (fleet.ca / "index.csv").read_text()
    assert all(fleet.serial("a", kind) in recorded for kind in ("server", "client"))
    assert len(recorded.splitlines()) == 1 + 2 + 2


def killed(fleet: Fleet, task: str, monkeypatch: pytest.MonkeyPatch, **variables: object) -> None:
    plugins = fleet.directory / "plugins"
    plugins.mkdir(exist_ok=True)
    (plugins / "stop.py").write_text(STOP)
    started = subprocess.Popen
    with monkeypatch.context() as patch:
        patch.setenv("ANSIBLE_CALLBACK_PLUGINS", str(plugins))
        patch.setenv("ANSIBLE_CALLBACKS_ENABLED", "stop")
        patch.setenv("STOP_AFTER", task)
        # A group of its own, so that the kill takes its workers along and not us.
        patch.setattr(subprocess, "Popen", lambda *a, **k: started(*a, **k, start_new_session=True))
        assert "PLAY RECAP" not in fleet.play(fails=True, **variables)


WRONG = {
    "short": ({"pki_ca_passphrase": "fifteen-letters"}, "pki_ca_passphrase has fewer than 16"),
    "relative": ({"pki_ca_dir": "pki"}, "pki_ca_dir is pki"),
    "three": ({"pki_ca_trusted": ["ca-1", "ca-2", "ca-3"]}, "pki_ca_trusted is ca-1, ca-2, ca-3"),
    "untrusted": ({"pki_ca_generation": "ca-2"}, "pki_ca_generation is ca-2, which is not in"),
    "path": ({"pki_ca_generation": "../x", "pki_ca_trusted": ["../x"]}, "Use names of a-z"),
    "common": ({"pki_common_name": "a b"}, "pki_common_name is 'a b'"),
    "nameless": ({"pki_server_names": []}, "pki_server_names is empty"),
    "prefix": ({"pki_server_names": ["192.0.2.7/24"]}, "192.0.2.7/24"),
    "always": ({"pki_days": 80}, "must be less than pki_days"),
    "list": ({"pki_crl_renew_before_days": 398}, "pki_crl_renew_before_days is 398"),
    "serial": ({"pki_revoked": [{"serial": "1e5x", "date": "2026-01-31"}]}, "pki_revoked: entry 1: serial 1e5x"),
    "reason": ({"pki_revoked": [{"serial": "1E5F", "date": "2026-01-31", "reason": "no"}]}, "pki_revoked"),
    "curve": ({"pki_curve": "secp521r1"}, "pki_curve"),
}


def test_wrong_values_are_refused_before_anything_changes(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, "good")
    fleet.hosts |= {name: variables for name, (variables, _) in WRONG.items()}
    text = fleet.play(part="preflight", fails=True)
    for name, (_, message) in WRONG.items():
        said = [part for part in text.split("fatal: ")[1:] if part.startswith(f"[{name}]")]
        assert len(said) == 1, f"{name} was not refused\n{text}"
        assert message in re.sub(r"\s+", " ", said[0]).replace("''", "'")
    assert "[good]: FAILED" not in text
    assert fleet.files() == {}


def test_a_damaged_controller_is_refused(tmp_path: Path) -> None:
    fleet = Fleet(tmp_path, "a")
    fleet.play()
    before = fleet.files()
    text = fleet.play(fails=True, pki_ca_passphrase="not-what-it-was-made-with")
    assert "pki_ca_passphrase is not the passphrase" in text
    assert "not-what-it-was" not in text
    near_its_end = {"pki_ca_days": 4000, "pki_days": 3900, "pki_renew_before_days": 3800}
    assert "change over to a new" in re.sub(r"\s+", " ", fleet.play(fails=True, **near_its_end))
    (fleet.ca / "ca-1/ca.key").rename(tmp_path / "kept")
    assert "key ca.key is missing" in re.sub(r"\s+", " ", fleet.play(fails=True))
    (tmp_path / "kept").rename(fleet.ca / "ca-1/ca.key")
    assert fleet.files() == before
    # Without its directory the controller would make a second CA of the same name.
    fleet.ca.rename(tmp_path / "mislaid")
    assert "holds none of the CAs" in fleet.play(fails=True)
    assert not (fleet.ca / "ca-1").exists()
    (tmp_path / "mislaid").rename(fleet.ca)
    assert fleet.changed() == 0
