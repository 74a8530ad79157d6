"""One site's machine: one ssh connection for commands, testinfra and tunnels."""

import json
import shlex
import socketserver
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import testinfra
from testinfra.host import Host

from verification.fleet import Connection
from verification.outcome import wait_for

CONNECT_SECONDS = 10
COMMAND_SECONDS = 180
# The script's `main` gets the data, and what it returns comes back as JSON. Data comes by standard input, so that a
# secret is in no argument list.
_RUN = (
    "import json,sys; j=json.load(sys.stdin); g={'__name__':'verify'}; "
    "exec(compile(j['script'],'verify','exec'),g); print(json.dumps(g['main'](j['data'])))"
)
SCRIPTS = Path(__file__).parent / "on_machine"
RELAY = SCRIPTS / "relay.py"


class UnreachableError(AssertionError):
    """The machine can't be reached; the text says how it was tried."""


class Machine:
    """A machine over ssh. `open` it first; `close` ends tunnels, too."""

    def __init__(self, connection: Connection, folder: Path) -> None:
        self._connection = connection
        self._socket = folder / "ssh"
        self._log = folder / "ssh.log"
        self._tunnels: dict[tuple[str, int], _Tunnel] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._broken = ""

    @property
    def _arguments(self) -> list[str]:
        it = self._connection
        arguments = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={CONNECT_SECONDS}", "-o", "LogLevel=ERROR"]
        arguments += ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3", "-o", f"ControlPath={self._socket}"]
        arguments += ["-o", f"User={it.user}", "-o", f"Port={it.port}", *shlex.split(it.arguments)]
        return [*arguments, *(["-i", it.private_key_file] if it.private_key_file else [])]

    def open(self, patience: float = CONNECT_SECONDS + 5) -> None:
        """Connect, or raise `UnreachableError`; what failed once is not tried again by every check."""
        if self._broken:
            raise UnreachableError(self._broken)
        if self._process is not None and self._process.poll() is None:
            return
        deadline = time.monotonic() + patience
        while not self._connected(max(1.0, deadline - time.monotonic())):
            if time.monotonic() >= deadline:
                self._broken = (
                    f"expected: ssh to {self._connection.user}@{self._connection.address}\nseen: {self._error()}\n"
                    "next: `ansible -m ping` for this host; is the machine up, the controller in an admin network?"
                )
                raise UnreachableError(self._broken)

    def _connected(self, seconds: float) -> bool:
        self.close()
        command = ["ssh", "-M", "-N", *self._arguments, self._connection.address]
        with self._log.open("wb") as log:
            process = self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=log)
        wait_for(lambda: self._check() or process.poll() is not None, min(seconds, CONNECT_SECONDS + 2), every=0.1)
        return process.poll() is None and self._check()

    def _check(self) -> bool:
        command = ["ssh", "-O", "check", *self._arguments, self._connection.address]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _error(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines() if self._log.exists() else []
        return lines[-1] if lines else "no answer"

    def close(self) -> None:
        """End the connection and all tunnels."""
        for tunnel in self._tunnels.values():
            tunnel.shutdown()
            tunnel.server_close()
        self._tunnels.clear()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
            self._process = None
        self._socket.unlink(missing_ok=True)

    def reopen(self, patience: float) -> None:
        """Connect anew, for as long as it may take the machine to come back."""
        self.close()
        self.open(patience)

    def forget_failure(self) -> None:
        """The machine was away on purpose: try again."""
        self._broken = ""

    @property
    def testinfra(self) -> Host:
        """The same machine for testinfra's modules, over the same connection."""
        it = self._connection
        arguments = shlex.join([word for word in self._arguments if word != "-i" and word != it.private_key_file])
        return testinfra.get_host(
            f"ssh://{it.user}@{it.address}:{it.port}",
            ssh_identity_file=it.private_key_file or None,
            ssh_extra_args=arguments,
            controlpersist=0,
            sudo=it.become,
        )

    def run(self, *command: str, data: str = "", check: bool = True, seconds: float = COMMAND_SECONDS) -> str:
        """Run one command as root; its output."""
        words = shlex.join([*(["sudo", "-n"] if self._connection.become else []), *command])
        done = subprocess.run(
            ["ssh", *self._arguments, self._connection.address, words],
            input=data, capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip
        if check and done.returncode:
            told = (done.stderr or done.stdout).strip().splitlines()[-3:]
            raise AssertionError(f"`{' '.join(command[:6])}` ended with {done.returncode}: {' / '.join(told)}")
        return done.stdout

    def python(self, script: str, data: Any = None) -> Any:
        """Run ``main`` of a script of ``on_machine`` there, as root; what it returns."""
        request = json.dumps({"script": (SCRIPTS / f"{script}.py").read_text(), "data": data})
        return json.loads(self.run("/usr/bin/python3", "-c", _RUN, data=request))

    def secret(self, path: str) -> str:
        """The content of a secret file."""
        return self.run("cat", path).strip()

    def tunnel(self, address: str, port: int) -> int:
        """A local port that leads to an address as the machine sees it.

        Each connection is one command over ssh: sshd's own forwarding is switched off on a hardened machine.
        """
        if (address, port) not in self._tunnels:
            server = _Tunnel(["ssh", *self._arguments, self._connection.address, *_relay(address, port)])
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self._tunnels[address, port] = server
        return int(self._tunnels[address, port].server_address[1])


def _relay(address: str, port: int) -> list[str]:
    return ["/usr/bin/python3", "-c", shlex.quote(RELAY.read_text()), shlex.quote(address), str(port)]


class _Tunnel(socketserver.ThreadingTCPServer):
    """Local listener of a tunnel: a relay on the machine for each connection."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, command: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), _Carrier)
        self.command = command


class _Carrier(socketserver.BaseRequestHandler):
    server: _Tunnel

    def handle(self) -> None:
        """The relay reads and writes our socket itself."""
        with subprocess.Popen(
            self.server.command, stdin=self.request, stdout=self.request, stderr=subprocess.DEVNULL
        ) as relay:
            relay.wait()
