"""EMQX's configuration without EMQX: a reader of HOCON as far as our template uses it, and what 5.8.9 takes.

`SCHEMA` names the keys that we use, what each has to be and which may not be missing, as the schema of the release
`VERSION` has them (its modules `emqx_schema`, `emqx_conf_schema`, `emqx_dashboard_schema`, `emqx_retainer_schema`,
`emqx_authn_mnesia_schema`, `emqx_authz_file_schema`, `emqx_rule_engine_schema`, `emqx_resource_schema`,
`emqx_bridge_mqtt_connector_schema` and `emqx_bridge_mqtt_pubsub_schema`; read in November 2026). A key that stands not
here is refused: either EMQX does not know it, or somebody has to look it up there first.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

VERSION = "5.8.9"
_TOKEN = re.compile(r'\s*(?:##.*\n)?\s*("(?:[^"\\]|\\.)*"|[{}\[\],=]|[^\s{}\[\],="]+)')


def read_hocon(text: str) -> dict[str, Any]:
    """The part of HOCON that our template uses: dotted keys, objects, arrays, quoted and bare values."""
    tokens = [match[1] for match in _TOKEN.finditer(re.sub(r"^\s*##.*$", "", text, flags=re.MULTILINE))]

    def value(at: int) -> tuple[Any, int]:
        if tokens[at] == "{":
            return members(at + 1, "}")
        if tokens[at] == "[":
            items, at = [], at + 1
            while tokens[at] != "]":
                item, at = value(at)
                items.append(item)
                at += tokens[at] == ","
            return items, at + 1
        word = tokens[at]
        return re.sub(r"\\(.)", r"\1", word[1:-1]) if word.startswith('"') else word, at + 1

    def members(at: int, end: str) -> tuple[dict[str, Any], int]:
        found: dict[str, Any] = {}
        while at < len(tokens) and tokens[at] != end:
            *folders, last = tokens[at].split(".")
            at += 1 + (tokens[at + 1] == "=")
            place = found
            for folder in folders:
                place = place.setdefault(folder, {})
            place[last], at = value(at)
            at += at < len(tokens) and tokens[at] == ","
        return found, at + 1

    return members(0, "")[0]


Kind = Callable[[str], bool]


def one_of(*words: str) -> Kind:
    """An enumeration."""
    return lambda word: word in words


def number(least: int, most: float = float("inf")) -> Kind:
    """A whole number in these bounds."""
    return lambda word: word.isdigit() and least <= int(word) <= most


def either(*kinds: Kind) -> Kind:
    """A union."""
    return lambda word: any(kind(word) for kind in kinds)


def like(pattern: str) -> Kind:
    """A text of this form."""
    return lambda word: re.fullmatch(pattern, word, re.IGNORECASE) is not None


TEXT, BOOLEAN = like(r"(?s).+"), one_of("true", "false")
TEMPLATE = like(r".*\$\{.+\}.*")
QOS = either(number(0, 2), TEMPLATE)
# EMQX takes a bare number for a duration too, in a unit that differs from key to key: not here.
DURATION, OCTETS = like(r"(\d+(ms|[smhdw]))+"), like(r"\d+([kmg]?b)?")
ADDRESS = like(r"([\d.]+:)?\d+")
PORT_OF_A_HOST = like(r"[\w.-]+:\d+")
TLS = {
    "versions": [one_of("tlsv1.3", "tlsv1.2")], "cacertfile": TEXT, "certfile": TEXT, "keyfile": TEXT,
    "verify": one_of("verify_peer", "verify_none"),
}  # fmt: skip
LISTENER = {"enable": BOOLEAN, "bind!": ADDRESS}
RESOURCE = {
    "request_ttl": either(one_of("infinity"), DURATION), "max_buffer_bytes": OCTETS,
    "worker_pool_size": number(1, 1024), "query_mode": one_of("sync", "async"), "inflight_window": number(1),
}  # fmt: skip
OUT = {"topic!": TEXT, "qos": QOS, "retain": either(BOOLEAN, TEMPLATE), "payload": TEMPLATE}

# key → kind, or what is in it; "key!" has to be there, "*" is any name, a list holds any number of its only entry.
SCHEMA: dict[str, Any] = {
    "node!": {"name!": like(r"\w+@[\w.]+"), "cookie!": TEXT, "data_dir!": TEXT},
    "authentication": [{
        "mechanism!": one_of("password_based"), "backend!": one_of("built_in_database"),
        "user_id_type!": one_of("clientid", "username"), "bootstrap_file": TEXT,
        "bootstrap_type": one_of("hash", "plain"),
        "password_hash_algorithm": {
            "name!": one_of("pbkdf2"), "iterations!": number(1), "dk_length": number(1),
            "mac_fun!": one_of("md4", "md5", "ripemd160", "sha", "sha224", "sha256", "sha384", "sha512"),
        },
    }],
    "authorization": {
        "no_match!": one_of("allow", "deny"), "deny_action": one_of("ignore", "disconnect"),
        "sources": [{"type!": one_of("file"), "enable": BOOLEAN, "path!": TEXT}],
    },
    "mqtt": {
        "max_packet_size": OCTETS, "max_mqueue_len": either(one_of("infinity"), number(0)),
        "max_inflight": number(1, 65535), "session_expiry_interval": DURATION,
    },
    "retainer": {"backend": {"type!": one_of("built_in_database"), "storage_type": one_of("ram", "disc")}},
    "listeners": {
        "tcp": {"*": LISTENER}, "ws": {"*": LISTENER}, "wss": {"*": LISTENER},
        "ssl": {"*": LISTENER | {"ssl_options": TLS | {"fail_if_no_peer_cert": BOOLEAN}}},
    },
    "dashboard": {"listeners": {"http": {"bind": ADDRESS}}, "default_password": TEXT, "swagger_support": BOOLEAN},
    "rpc": {"listen_address": like(r"[\d.]+")},
    "telemetry": {"enable": BOOLEAN},
    "log": {
        "console": {"enable": BOOLEAN, "level": one_of("debug", "info", "notice", "warning", "error", "critical"),
                    "formatter": one_of("text", "json")},
        "file": {"*": {"enable": BOOLEAN}},
    },
    "connectors": {"mqtt": {"*": {
        "enable": BOOLEAN, "server!": PORT_OF_A_HOST, "proto_ver": one_of("v3", "v4", "v5"), "clean_start": BOOLEAN,
        "keepalive": DURATION, "max_inflight": number(0),
        "static_clientids": [{"node!": TEXT, "ids!": [{"clientid!": TEXT, "username": TEXT, "password": TEXT}]}],
        "ssl": TLS | {"enable": BOOLEAN, "server_name_indication": TEXT},
    }}},
    "actions": {"mqtt": {"*": {"enable": BOOLEAN, "connector!": TEXT, "parameters!": OUT, "resource_opts": RESOURCE}}},
    "sources": {"mqtt": {"*": {
        "enable": BOOLEAN, "connector!": TEXT,
        "parameters!": {"topic!": TEXT, "qos": number(0, 2), "no_local": BOOLEAN},
    }}},
    "rule_engine": {"rules": {"*": {
        "sql!": like(r'SELECT .+ FROM ".+"'), "enable": BOOLEAN,
        "actions": [like(r"mqtt:\w+")],
    }}},
}  # fmt: skip
REPUBLISH = {"function!": one_of("republish"), "args!": OUT}


def problems(config: Any, schema: Any = None, at: str = "") -> Iterator[str]:
    """What of it EMQX would refuse: where, and why."""
    schema = SCHEMA if schema is None else schema
    if isinstance(schema, dict):
        yield from _members(config, schema, at) if isinstance(config, dict) else [f"{at}: not an object"]
    elif isinstance(schema, list):
        if not isinstance(config, list):
            yield f"{at}: not an array"
            return
        for number_, item in enumerate(config):
            # A rule's action is a name, or a function with its arguments.
            inner = REPUBLISH if isinstance(item, dict) and not isinstance(schema[0], dict) else schema[0]
            yield from problems(item, inner, f"{at}[{number_}]")
    elif not isinstance(config, str) or not schema(config):
        yield f"{at}: {config!r} is not allowed"


def _members(config: dict[str, Any], schema: dict[str, Any], at: str) -> Iterator[str]:
    known = {name.removesuffix("!"): inner for name, inner in schema.items()}
    for name, value in config.items():
        place = f"{at}.{name}".removeprefix(".")
        inner = known.get(name, known.get("*"))
        if inner is None:
            yield f"{place}: unknown"
        else:
            yield from problems(value, inner, place)
    for name in schema:
        if name.endswith("!") and name[:-1] not in config:
            yield f"{at}.{name[:-1]}: missing"
    if config.get("fail_if_no_peer_cert") == "true" and config.get("verify") != "verify_peer":
        yield f"{at}: fail_if_no_peer_cert needs verify_peer"
