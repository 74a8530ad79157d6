"""The tests in several processes side by side, each in a network of its own: none takes another's port or broadcast.

BACnet's port is one for all, and the simulated buildings have their addresses below 127.0.0.0/8: in one network the
tests can only run one after the other, and they wait more than they compute. Making a network (a Linux namespace) needs
root; without it there is one process, in the host's network.
"""

import ctypes
import os
import shutil
import subprocess

PROCESSES = 3  # on two cores; with more, devices seem slower to the worker than they are
CLONE_NEWNET = 0x40000000  # sched.h; Python has os.unshare from 3.12 on
OUTSIDE = "BACPIPES_TEST_OUTSIDE"


def processes() -> int:
    """How many side by side; 0 where a process cannot have a network of its own: then there is one, in the host's."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "nsenter", "ip"))):
        return 0
    return 0 if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode else PROCESSES


def enter() -> None:
    """Leave the host's network for one that has nothing but a loopback; what starts from now on is in it, too.

    Raises OSError where the kernel refuses.
    """
    os.environ[OUTSIDE] = f"/proc/{os.getppid()}/ns/net"  # who hands the tests out stays in the host's
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, f"cannot have a network of its own: {os.strerror(code)}")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


def outside(command: list[str]) -> list[str]:
    """``command`` as it has to be said to run in the host's network: that is where package registries answer."""
    network = os.environ.get(OUTSIDE)
    return ["nsenter", f"--net={network}", *command] if network else command
