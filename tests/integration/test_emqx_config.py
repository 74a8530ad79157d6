"""EMQX's configuration as the playbooks write it, held to the schema of the very version that they install.

The image can't be had here: see tests/emqx_parts.py for what this can find. What it can't: whether two settings suit
each other beyond what is written there, whether files are where they are said to be, whether the engine does it.
"""

from pathlib import Path

import pytest
import yaml

import emqx_parts
import live_parts
from emqx_parts import problems, read_hocon

pytestmark = pytest.mark.skipif(
    not live_parts.ANSIBLE.exists(), reason=f"{live_parts.ANSIBLE} is missing: `make controller` installs it"
)
SITE = "klcc"
VARIANTS: dict[str, dict[str, object]] = {
    "as onboarding writes it": {},
    "without client certificates": {"mqtt_broker_tls_client_certificate": "none"},
    "with client certificates for those who have one": {"mqtt_broker_tls_client_certificate": "optional"},
    "without TLS": {"mqtt_broker_tls_addresses": []},
    "without a bridge": {"mqtt_broker_bridge_address": ""},
    "with large bounds": {"mqtt_broker_max_queued_messages": 10**7, "mqtt_broker_max_inflight_messages": 65535},
}


def rendered(folder: Path, host: str, **extra: object) -> str:
    """A host's emqx.conf."""
    results = [{"content": secret} for secret in ("YSBjb29raWU=", "YSBwYXNzd29yZA==")]
    secrets = {"_mqtt_broker_emqx_secrets": {"results": results}}
    live_parts.render(folder, host, ["mqtt_broker"], ["broker/emqx/emqx.conf"], test_password="x", **secrets, **extra)
    return (folder / host / "emqx.conf").read_text()


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The example's site with EMQX, with the bridge."""
    return rendered(tmp_path_factory.mktemp("emqx"), SITE)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_site_s_file_is_what_emqx_takes(tmp_path: Path, variant: str) -> None:
    config = read_hocon(rendered(tmp_path, SITE, **VARIANTS[variant]))
    assert {"node", "authentication", "authorization", "listeners"} <= set(config)
    assert list(problems(config)) == []


def test_central_s_file_is_what_emqx_takes(tmp_path: Path) -> None:
    config = read_hocon(rendered(tmp_path, "central"))
    assert list(problems(config)) == []
    assert int(config["mqtt"]["max_inflight"]) >= 5000, "Telegraf's rate"


def test_it_is_the_version_that_is_installed() -> None:
    versions = yaml.safe_load((live_parts.ROOT / "playbooks/group_vars/all/versions.yml").read_text())
    assert f"emqx:{emqx_parts.VERSION}'" in versions["versions_image_emqx"], "read that version's schema first"


@pytest.mark.parametrize(
    ("ours", "another", "told"),
    [
        ("max_mqueue_len", "max_queue_len", "mqtt.max_queue_len: unknown"),
        ("static_clientids", "static_client_ids", "connectors.mqtt.central.static_client_ids: unknown"),
        ("clean_start = false", "clean_start = never", "connectors.mqtt.central.clean_start: 'never' is not allowed"),
        ("proto_ver = v4", "proto_ver = 4", "connectors.mqtt.central.proto_ver: '4' is not allowed"),
        ("keepalive = 60s", "keepalive = soon", "connectors.mqtt.central.keepalive: 'soon' is not allowed"),
        ("server = ", "host = ", "connectors.mqtt.central.server: missing"),
        ("request_ttl = infinity", "request_ttl = never", "resource_opts.request_ttl: 'never' is not allowed"),
        ("worker_pool_size = 1", "worker_pool_size = 0", "resource_opts.worker_pool_size: '0' is not allowed"),
        ("query_mode = async", "query_mode = asynchronous", "resource_opts.query_mode: 'asynchronous' is not allowed"),
        ("  connector = central\n", "", ".connector: missing"),
        ("no_local = true", "nolocal = true", ".parameters.nolocal: unknown"),
        ("function = republish", "function = publish", ".actions[0].function: 'publish' is not allowed"),
        ('"mqtt:central_1"', '"central_1"', ".actions[0]: 'central_1' is not allowed"),
        ("no_match = deny", "no_match = refuse", "authorization.no_match: 'refuse' is not allowed"),
        ("{type = file, ", "{", "authorization.sources[0].type: missing"),
        ("storage_type = disc", "storage_type = disk", "retainer.backend.storage_type: 'disk' is not allowed"),
        ("verify = verify_peer\n    fail", "verify = verify_none\n    fail", "fail_if_no_peer_cert needs verify_peer"),
        ('"tlsv1.3", ', '"tls1.3", ', ".versions[0]: 'tls1.3' is not allowed"),
        ("bootstrap_type = hash", "bootstrap_type = hashed", "bootstrap_type: 'hashed' is not allowed"),
        ("telemetry.enable", "telemetry.enabled", "telemetry.enabled: unknown"),
    ],
)
def test_what_emqx_would_refuse_is_found(text: str, ours: str, another: str, told: str) -> None:
    assert ours in text
    found = list(problems(read_hocon(text.replace(ours, another))))
    assert any(one.endswith(told) for one in found), found
