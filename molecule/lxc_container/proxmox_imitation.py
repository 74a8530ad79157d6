"""An imitation of the Proxmox VE API: as much of it as the role lxc_container and its modules call. It is not Proxmox.

What it does strictly, because a mistake would show only at a real cluster: a wrong token is refused (401), an unknown
parameter is refused (400), a disk does not shrink, a running container is not removed, and each task runs for a moment
before it is done. Containers are dictionaries. Run by itself it prints its port and the file of its certificate, made
at start:

    python3 proxmox_imitation.py FOLDER USER!TOKEN=SECRET
"""

import json
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

NODE = "pve1"
STORAGE = "local-lvm"
TEMPLATES = ["local:vztmpl/debian-13-standard_13.1-2_amd64.tar.zst"]
CREATE = {
    "vmid",
    "ostemplate",
    "hostname",
    "unprivileged",
    "features",
    "cores",
    "memory",
    "rootfs",
    "nameserver",
    "onboot",
    "storage",
}
CREATE |= {"ssh-public-keys", "force", "ostype", "swap", "tags", "description"}
CONFIG = {"cores", "memory", "nameserver", "onboot", "features", "hostname", "delete", "swap", "tags", "description"}
TASK_SECONDS = 0.5


class RefusedError(Exception):
    def __init__(self, status: int, message: str, errors: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.errors = errors or {}


def check(given: dict[str, str], known: set[str]) -> None:
    unknown = {
        key: "property is not defined in schema"
        for key in given
        if key not in known and not re.fullmatch(r"net\d", key)
    }
    if unknown:
        raise RefusedError(400, "Parameter verification failed.", unknown)
    if int(given.get("memory", "512")) < 16:
        raise RefusedError(400, "Parameter verification failed.", {"memory": "value must have a minimum value of 16"})


class Cluster:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.containers: dict[int, dict[str, Any]] = {}
        self.tasks: dict[str, float] = {}
        self.calls: list[str] = []

    def task(self, kind: str, number: int) -> str:
        count, now = len(self.tasks), int(time.time())
        name = f"UPID:{NODE}:0000{count:04X}:00000000:{now:08X}:{kind}:{number}:ansible@pve!bacpipes:"
        self.tasks[name] = time.monotonic()
        return name

    def get(self, number: int) -> dict[str, Any]:
        if number not in self.containers:
            raise RefusedError(500, f"Configuration file 'nodes/{NODE}/lxc/{number}.conf' does not exist")
        return self.containers[number]

    def answer(self, method: str, path: str, given: dict[str, str]) -> Any:
        node = re.match(r"/nodes/([^/]+)/", path)
        if node and node[1] != NODE:
            raise RefusedError(500, f"hostname lookup '{node[1]}' failed")
        for call, function in CALLS.items():
            if match := re.fullmatch(call, f"{method} {path}"):
                return function(self, given, *match.groups())
        raise RefusedError(501, f"Method '{method} {path}' not implemented")

    def state(self, name: str) -> dict[str, str]:
        if time.monotonic() - self.tasks[unquote(name)] < TASK_SECONDS:
            return {"status": "running"}
        return {"status": "stopped", "exitstatus": "OK"}

    def turn(self, number: int, verb: str) -> str:
        states = {"start": "running", "shutdown": "stopped", "stop": "stopped"}
        self.get(number)["status"] = states[verb]
        return self.task(f"vz{verb}", number)

    def remove(self, number: int, given: dict[str, str]) -> str:
        if self.get(number)["status"] == "running" and given.get("force") != "1":
            raise RefusedError(500, f"unable to destroy CT {number} - container is running")
        del self.containers[number]
        return self.task("vzdestroy", number)

    def line(self, number: int) -> dict[str, Any]:
        container = self.get(number)
        return {"vmid": number, "name": container["config"]["hostname"], "status": container["status"]}

    def create(self, given: dict[str, str]) -> str:
        check(given, CREATE)
        number = int(given.pop("vmid"))
        if number in self.containers:
            raise RefusedError(500, f"unable to create CT {number} - CT {number} already exists on node '{NODE}'")
        if given.pop("ostemplate") not in TEMPLATES:
            raise RefusedError(500, "volume does not exist")
        storage, size = given["rootfs"].split(":")
        if storage != STORAGE:
            raise RefusedError(500, f"storage '{storage}' does not exist")
        given["rootfs"] = f"{storage}:vm-{number}-disk-0,size={size}G"
        keys = given.pop("ssh-public-keys", "")
        given.pop("storage", None)
        given.pop("force", None)
        self.containers[number] = {
            "status": "stopped",
            "config": {"arch": "amd64", "ostype": "debian", **given},
            "keys": keys,
        }
        return self.task("vzcreate", number)

    def change(self, config: dict[str, Any], given: dict[str, str]) -> None:
        check(given, CONFIG)
        for key in filter(None, given.pop("delete", "").split(",")):
            config.pop(key, None)
        config.update(given)

    def resize(self, number: int, given: dict[str, str]) -> str:
        config = self.get(number)["config"]
        volume, size = config["rootfs"].split(",size=")
        if int(given["size"].rstrip("G")) < int(size.rstrip("G")):
            raise RefusedError(500, "unable to shrink disk size")
        config["rootfs"] = f"{volume},size={given['size']}"
        return self.task("resize", number)


LXC = f"/nodes/{NODE}/lxc"
VERSION = {"version": "9.0.10", "release": "9.0", "repoid": "imitation"}
# method and path, and what answers
CALLS: dict[str, Callable[..., Any]] = {
    "GET /version": lambda _cluster, _given: VERSION,
    "GET /nodes": lambda _cluster, _given: [{"node": NODE, "status": "online", "type": "node"}],
    "GET /cluster/resources": lambda cluster, _given: [
        {"id": f"lxc/{n}", "type": "lxc", "node": NODE, **cluster.line(n)} for n in cluster.containers
    ],
    f"GET /nodes/{NODE}/tasks/([^/]+)/status": lambda cluster, _given, name: cluster.state(name),
    f"GET /nodes/{NODE}/storage/([^/]+)/content": lambda _cluster, _given, storage: [
        {"volid": name, "content": "vztmpl"} for name in TEMPLATES if name.startswith(f"{storage}:")
    ],
    f"GET {LXC}": lambda cluster, _given: [cluster.line(n) for n in cluster.containers],
    f"POST {LXC}": lambda cluster, given: cluster.create(given),
    f"DELETE {LXC}/([0-9]+)": lambda cluster, given, n: cluster.remove(int(n), given),
    f"GET {LXC}/([0-9]+)/config": lambda cluster, _given, n: cluster.get(int(n))["config"],
    f"PUT {LXC}/([0-9]+)/config": lambda cluster, given, n: cluster.change(cluster.get(int(n))["config"], given),
    f"PUT {LXC}/([0-9]+)/resize": lambda cluster, given, n: cluster.resize(int(n), given),
    f"GET {LXC}/([0-9]+)/status/current": lambda cluster, _given, n: cluster.line(int(n)),
    f"POST {LXC}/([0-9]+)/status/(start|shutdown|stop)": lambda cluster, _given, n, verb: cluster.turn(int(n), verb),
}


class Imitation(ThreadingHTTPServer):
    """Listens on a free port of this machine."""

    def __init__(self, folder: Path, token: str) -> None:
        self.cluster = Cluster()
        self.token = token
        self.certificate = folder / "certificate.pem"
        key = folder / "key.pem"
        options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
        options += f" -addext subjectAltName=DNS:localhost -keyout {key} -out {self.certificate}"
        subprocess.run(["openssl", *options.split()], check=True, capture_output=True)
        super().__init__(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, key)
        self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that does not trust the certificate hangs up; that is its right."""


class Handler(BaseHTTPRequestHandler):
    server: Imitation
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        path = url.path.removeprefix("/api2/json")
        cluster = self.server.cluster
        try:
            if self.headers.get("Authorization") != f"PVEAPIToken={self.server.token}":
                raise RefusedError(401, "no such user or token")
            if "json" in self.headers.get("Content-Type", ""):
                given = {key: str(value) for key, value in json.loads(body or "{}").items()}
            else:
                given = dict(parse_qsl(f"{url.query}&{body}", keep_blank_values=True))
            with cluster.lock:
                if self.command != "GET":
                    cluster.calls.append(f"{self.command} {path}")
                self.reply(200, "OK", {"data": cluster.answer(self.command, path, given)})
        except RefusedError as refused:
            self.reply(refused.status, str(refused), {"data": None, "errors": refused.errors})

    def reply(self, status: int, reason: str, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode()
        self.send_response(status, reason)
        self.send_header("Content-Type", "application/json;charset=UTF-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815 - the names that http.server calls

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    imitation = Imitation(Path(sys.argv[1]), sys.argv[2])
    print(imitation.port, imitation.certificate, flush=True)
    imitation.serve_forever()
