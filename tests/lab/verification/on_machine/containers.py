"""The containers of a compose project as they run: Docker's word, and what the kernel says of their processes."""

import json
import subprocess
from pathlib import Path


def main(data):
    label = "label=com.docker.compose.project=" + data["project"]
    names = _docker("ps", "-aq", "--filter", label).split()
    found = json.loads(_docker("inspect", *names)) if names else []
    return [_container(each) for each in found if each["Config"]["Labels"].get("com.docker.compose.oneoff") != "True"]


def _docker(*words):
    return subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout


def _container(it):
    host, state, config = it["HostConfig"], it["State"], it["Config"]
    return {
        "name": it["Name"].strip("/"),
        "service": config["Labels"].get("com.docker.compose.service", ""),
        "image": config["Image"],
        "image_id": it["Image"],
        "status": state["Status"],
        "health": state.get("Health", {}).get("Status", "none"),
        "exit_code": state["ExitCode"],
        "started": state["StartedAt"],
        "pid": state["Pid"],
        "restart": host["RestartPolicy"]["Name"],
        "user": config["User"],
        "read_only": host["ReadonlyRootfs"],
        "privileged": host["Privileged"],
        "cap_add": host["CapAdd"] or [],
        "security": host["SecurityOpt"] or [],
        "memory": host["Memory"],
        "cpus": host["NanoCpus"],
        "docker_socket": any("docker.sock" in mount["Source"] for mount in it["Mounts"]),
        "environment": {
            name: value
            for name, _, value in (entry.partition("=") for entry in config["Env"] or [])
            if name in ("BACPIPES_RETENTION_DAYS", "BACPIPES_POLL_PHASE", "BACPIPES_TIME_ZONE")
        },
        "processes": _processes(state["Pid"]),
    }


def _processes(pid):
    """Of the container's first process and all below it."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int(_status(int(folder.name))["PPid"])
        except (OSError, KeyError, ValueError):
            continue
    ours, grown = {pid} if pid else set(), True
    while grown:
        more = {child for child, parent in parents.items() if parent in ours} - ours
        ours, grown = ours | more, bool(more)
    found = []
    for each in sorted(ours):
        try:
            status = _status(each)
            root = _root_options(each)
        except (OSError, KeyError, IndexError):
            continue
        found.append(
            {
                "pid": each,
                "name": status["Name"],
                "uids": status["Uid"].split(),
                "capabilities": max(int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")),
                "no_new_privileges": status.get("NoNewPrivs") == "1",
                "root": root,
            }
        )
    return found


def _status(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _root_options(pid):
    """`ro` or `rw` of what the process sees as /."""
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        words = line.split()
        if words[4] == "/":
            return words[5].split(",")[0]
    return "unknown"
