"""The token of central's API that its role makes: the role's own task on this machine, with a stand-in for Docker."""

import json
import os
import subprocess
import sys
from pathlib import Path

import httpx
import psycopg
import pytest
from psycopg.conninfo import make_conninfo

import live_parts
from bacpipes.central.app import create_app
from bacpipes.tokens import digest
from central_parts import central_settings
from exporter_parts import execute

pytestmark = pytest.mark.skipif(
    not live_parts.ANSIBLE.exists(), reason=f"{live_parts.ANSIBLE} is missing: `make controller` installs it"
)
PLAY = """
- name: The token alone
  hosts: localhost
  gather_facts: false
  connection: local
  tasks:
    - name: The role's task
      ansible.builtin.import_role: {name: central, tasks_from: token}
"""
# Runs what `docker compose … exec … central bacpipes …` would run in the container, and notes its own arguments.
DOCKER = """#!/bin/sh
printf '%s\\n' "$*" >> {folder}/arguments
while [ "$1" != central ]; do shift; done; shift 2
[ ! -e {folder}/down ] || {{ cat > /dev/null; exit 1; }}
BACPIPES_DATABASE_URL='{url}' exec {python} -m bacpipes "$@"
"""


class Machine:
    """Where central's role is played."""

    def __init__(self, folder: Path, owner: str) -> None:
        self.folder, self.owner = folder, owner
        self.url = make_conninfo(owner, user="central_service")
        self.token = folder / "secrets" / "operator.token"
        (folder / "play.yml").write_text(PLAY)
        docker = folder / "docker"
        docker.write_text(DOCKER.format(folder=folder, python=sys.executable, url=self.url))
        docker.chmod(0o755)

    def play(self, *arguments: str, **variables: str) -> tuple[int, str]:
        """Exit status and all that it said, with every detail that Ansible tells when asked to."""
        extra = {"central_dir": str(self.folder), "ansible_python_interpreter": sys.executable} | variables
        environment = os.environ | {
            "ANSIBLE_CONFIG": str(live_parts.ROOT / "ansible.cfg"), "PATH": f"{self.folder}:{os.environ['PATH']}",
            "ANSIBLE_STRATEGY": "linear", "ANSIBLE_NOCOLOR": "1",
        }  # fmt: skip
        command = [live_parts.ANSIBLE, "-i", "localhost,", "-vvv", "--diff", "-e", json.dumps(extra), *arguments]
        done = subprocess.run(
            [*command, self.folder / "play.yml"], cwd=live_parts.ROOT, env=environment, capture_output=True, text=True
        )
        return done.returncode, done.stdout + done.stderr

    def changed(self, *arguments: str, **variables: str) -> int:
        """How many tasks changed something; it has to have worked, and shown no token."""
        status, said = self.play(*arguments, **variables)
        assert status == 0, said[-3000:]
        noted = self.folder / "arguments"
        told = said + (noted.read_text() if noted.exists() else "")
        assert not self.token.exists() or self.secret not in told
        return int(said.split("changed=")[1].split()[0])

    @property
    def secret(self) -> str:
        """What the operator finds."""
        return self.token.read_text().strip()

    def known(self) -> list[tuple[object, ...]]:
        """Central's tokens."""
        return execute(self.url, "SELECT name, role, digest, revoked_at IS NULL FROM api_token")


@pytest.fixture
def machine(central_url: str, tmp_path: Path) -> Machine:
    """The database is asked by the role that the service has."""
    with psycopg.connect(central_url, autocommit=True) as connection:
        connection.execute("ALTER ROLE central_service LOGIN")
    return Machine(tmp_path, central_url)


async def test_it_is_made_once_shown_to_nobody_and_taken_by_the_api(machine: Machine, tmp_path: Path) -> None:
    role = {"central_token_role": "viewer"}
    assert machine.changed("--check", **role) == 1
    assert not machine.token.exists()
    assert machine.known() == []
    assert machine.changed(**role) == 1
    assert machine.token.stat().st_mode & 0o777 == 0o400
    before = machine.secret
    assert machine.changed(**role) == machine.changed("--check", **role) == 0
    assert machine.secret == before
    assert machine.known() == [("operations", "viewer", digest(before), True)]
    assert sorted(path.name for path in machine.token.parent.iterdir()) == ["operator.token"], "no draft is left"
    app = create_app(central_settings(machine.url, tmp_path))
    transport = httpx.ASGITransport(app, client=("10.0.50.7", 50000))
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://c") as http:
        headers = {"Authorization": f"Bearer {before}"}
        assert (await http.get("/api/sites")).status_code == 401
        assert (await http.get("/api/sites", headers=headers)).status_code == 200
        assert (await http.post("/api/write", headers=headers, json={})).status_code == 403


def test_it_outlives_the_database_and_is_replaced_where_it_was_revoked(machine: Machine) -> None:
    machine.changed()
    before = machine.secret
    execute(machine.owner, "DELETE FROM api_token")  # as a database that was made anew
    assert machine.changed() == 1
    assert machine.secret == before
    assert machine.known() == [("operations", "operator", digest(before), True)]
    execute(machine.owner, "UPDATE api_token SET revoked_at = now()")
    assert machine.changed() == 1
    assert machine.secret != before
    assert machine.known() == [("operations", "operator", digest(machine.secret), True)]


def test_where_the_service_does_not_answer_nothing_is_kept(machine: Machine) -> None:
    (machine.folder / "down").touch()
    status, _ = machine.play()
    assert status == 2
    assert list(machine.token.parent.iterdir()) == []
    (machine.folder / "down").unlink()
    assert machine.changed() == 1
    before = machine.secret
    (machine.folder / "down").touch()
    assert machine.play()[0] == 2
    assert machine.secret == before, "what can't be asked about stays"


def test_none_is_made_where_none_is_wished(machine: Machine) -> None:
    assert machine.changed(central_token_file="") == 0
    assert machine.known() == []
