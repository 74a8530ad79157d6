"""Tokens and what they are checked against."""

import hashlib
from datetime import UTC, datetime, timedelta

import pytest
from starlette.requests import Request

from bacpipes.exporter.auth import is_local
from bacpipes.tokens import PREFIX, Role, Token, digest, new_secret

NOW = datetime(2025, 12, 8, tzinfo=UTC)


def test_a_secret_is_recognisable_long_and_new_each_time() -> None:
    secrets = {new_secret() for _ in range(50)}
    assert len(secrets) == 50
    assert all(secret.startswith(PREFIX) and len(secret) == len(PREFIX) + 43 for secret in secrets)


def test_only_the_sha256_is_kept() -> None:
    assert digest("bpt_x") == hashlib.sha256(b"bpt_x").digest()


def test_roles_are_ordered() -> None:
    assert Role.VIEWER < Role.OPERATOR < Role.ADMIN
    assert Role.of("operator") is Role.OPERATOR


@pytest.mark.parametrize(
    ("expires", "revoked", "state"),
    [
        (None, None, "valid"),
        (NOW + timedelta(days=1), None, "valid"),
        (NOW, None, "expired"),
        (NOW + timedelta(days=1), NOW, "revoked"),
    ],
)
def test_state(expires: datetime | None, revoked: datetime | None, state: str) -> None:
    assert Token("x", Role.VIEWER, NOW, expires, revoked).state(NOW) == state


@pytest.mark.parametrize(
    ("client", "headers", "local"),
    [
        (("127.0.0.1", 1), {}, True),
        (("127.8.9.1", 1), {}, True),
        (("::1", 1), {}, True),
        (("::ffff:127.0.0.1", 1), {}, True),
        (("192.168.1.5", 1), {}, False),
        (("::ffff:192.168.1.5", 1), {}, False),
        (("testclient", 1), {}, False),
        (None, {}, False),
        (("127.0.0.1", 1), {"x-forwarded-for": "127.0.0.1"}, False),
        (("127.0.0.1", 1), {"forwarded": "for=127.0.0.1"}, False),
    ],
)
def test_local_is_the_loopback_and_not_what_a_proxy_hands_on(
    client: tuple[str, int] | None, headers: dict[str, str], local: bool
) -> None:
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    assert is_local(Request({"type": "http", "client": client, "headers": raw})) is local
