#!/usr/bin/python
"""The passwords of a broker's users: one file for each user, and the engine's file of hashes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: mqtt_broker_passwords
short_description: Passwords of an MQTT broker's users
description:
  - Keeps C(mqtt_<name>.password) for each user, born here where none is given, and the hashes in the form that the
    engine reads. The hash of an unchanged password is kept, with its salt.
author: BacPipes
options:
  secrets: {description: Folder of the password files., type: path, required: true}
  path: {description: File of the hashes., type: path, required: true}
  engine: {description: Form of that file., type: str, choices: [mosquitto, emqx], required: true}
  uid: {description: Owner of that file., type: int, required: true}
  rounds: {description: Rounds of PBKDF2 with SHA-512., type: int, required: true}
  header: {description: Comment at its top, where the form has comments., type: str, default: ""}
  exclusive: {description: "Whether others lose their hash.", type: bool, default: true}
  users:
    description: The users.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Name., type: str, required: true}
      password: {description: Password; left out, the one on the machine is kept or one is born., type: str}
      owner: {description: The uid that reads the password., type: int, default: 0}
      acl: {description: Not looked at., type: list, elements: dict}
      state: {description: Whether the user exists., type: str, choices: [present, absent], default: present}
"""
EXAMPLES = r"""
- mqtt_broker_passwords:
    secrets: /opt/bacpipes/secrets
    path: /opt/bacpipes/broker/mosquitto/passwd
    engine: mosquitto
    uid: 1883
    rounds: 10000
    users: [{name: bacpipes_worker, owner: 10001}]
"""
RETURN = r"""
changed_users: {description: Users whose password is new or gone., type: list, returned: always}
"""


class Mosquitto:
    """Lines ``name:$7$rounds$salt$hash``."""

    def __init__(self, rounds: int, header: str) -> None:
        self._rounds, self._header = rounds, header

    def read(self, text: str) -> dict[str, str]:
        """Each user's line."""
        return {line.split(":")[0]: line for line in text.splitlines() if ":$7$" in line}

    def holds(self, line: str, password: str) -> bool:
        """Whether this line is of this password, with the rounds that are asked for."""
        fields = line.split("$")
        if len(fields) != 5 or fields[2] != str(self._rounds):
            return False
        salt, digest = base64.b64decode(fields[3]), base64.b64decode(fields[4])
        return hmac.compare_digest(digest, _pbkdf2(password, salt, self._rounds))

    def line(self, name: str, password: str) -> str:
        """A new line for this password."""
        salt = secrets.token_bytes(12)  # Mosquitto 2.0 takes no other length
        digest = _pbkdf2(password, salt, self._rounds)
        return f"{name}:$7${self._rounds}${base64.b64encode(salt).decode()}${base64.b64encode(digest).decode()}"

    def text(self, lines: list[str]) -> str:
        """The whole file."""
        return "".join(f"{line}\n" for line in [f"# {self._header}", *lines])


class Emqx:
    """The built-in database's CSV: ``user_id,password_hash,salt,is_superuser``, the salt used as it is written."""

    def __init__(self, rounds: int, _header: str) -> None:
        self._rounds = rounds

    def read(self, text: str) -> dict[str, str]:
        """Each user's line."""
        return {line.split(",")[0]: line for line in text.splitlines()[1:]}

    def holds(self, line: str, password: str) -> bool:
        """Whether this line is of this password, with the rounds that are asked for."""
        fields = line.split(",")
        return len(fields) == 4 and hmac.compare_digest(
            fields[1], _pbkdf2(password, fields[2].encode(), self._rounds).hex()
        )

    def line(self, name: str, password: str) -> str:
        """A new line for this password."""
        salt = secrets.token_hex(16)
        return f"{name},{_pbkdf2(password, salt.encode(), self._rounds).hex()},{salt},false"

    def text(self, lines: list[str]) -> str:
        """The whole file."""
        return "".join(f"{line}\n" for line in ["user_id,password_hash,salt,is_superuser", *lines])


def _pbkdf2(password: str, salt: bytes, rounds: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


class Files:
    """Files as they should be; says whether anything had to be done."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        self.changed = False

    def write(self, path: Path, text: str, uid: int, gid: int) -> None:
        """This text, owned so, readable by the owner alone. Never half a file."""
        if _read(path) != text:
            self.changed = True
            if not self._module.check_mode:
                handle, temporary = tempfile.mkstemp(dir=path.parent)
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(text)
                self._module.atomic_move(temporary, str(path))
        if path.exists():
            wanted = {"path": str(path), "owner": str(uid), "group": str(gid), "mode": "0400"}
            arguments = self._module.load_file_common_arguments(wanted)
            self.changed = self._module.set_fs_attributes_if_different(arguments, self.changed)

    def remove(self, path: Path) -> None:
        """No such file."""
        if path.exists():
            self.changed = True
            if not self._module.check_mode:
                path.unlink()


def main() -> None:
    """Run the module."""
    user = {
        "name": {"type": "str", "required": True},
        "password": {"type": "str", "no_log": True},
        "owner": {"type": "int", "default": 0},
        "acl": {"type": "list", "elements": "dict"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    module = AnsibleModule(
        argument_spec={
            "secrets": {"type": "path", "required": True, "no_log": False},
            "path": {"type": "path", "required": True},
            "engine": {"type": "str", "choices": ["mosquitto", "emqx"], "required": True},
            "uid": {"type": "int", "required": True},
            "rounds": {"type": "int", "required": True},
            "header": {"type": "str", "default": ""},
            "exclusive": {"type": "bool", "default": True},
            "users": {"type": "list", "elements": "dict", "required": True, "options": user},
        },
        supports_check_mode=True,
    )
    options: dict[str, Any] = module.params
    engine = {"mosquitto": Mosquitto, "emqx": Emqx}[options["engine"]](options["rounds"], options["header"])
    files = Files(module)
    path = Path(options["path"])
    old = engine.read(_read(path))
    lines: dict[str, str] = {} if options["exclusive"] else dict(old)
    for each in options["users"]:
        name = each["name"]
        secret = Path(options["secrets"]) / f"mqtt_{name}.password"
        if each["state"] == "absent":
            files.remove(secret)
            lines.pop(name, None)
            continue
        password = each["password"] or _read(secret).strip() or secrets.token_urlsafe(32)
        files.write(secret, password, each["owner"], 0)
        line = old.get(name, "")
        lines[name] = line if engine.holds(line, password) else engine.line(name, password)
    # By name: a user who is taken away and comes back, as a site's bridge at central, leaves the same file.
    files.write(path, engine.text([lines[name] for name in sorted(lines)]), options["uid"], options["uid"])
    changed = [name for name in {**old, **lines} if old.get(name) != lines.get(name)]
    module.exit_json(changed=files.changed, changed_users=changed, diff=_diff(options["path"], old, lines))


def _diff(path: str, old: dict[str, str], new: dict[str, str]) -> dict[str, str]:
    """What --diff shows: who changed, no hashes."""
    after = [name if old.get(name) == line else f"{name} (new password)" for name, line in new.items()]
    return {"before_header": path, "after_header": path, "before": _lines(list(old)), "after": _lines(after)}


def _lines(names: list[str]) -> str:
    return "".join(f"{name}\n" for name in names)


if __name__ == "__main__":
    main()
