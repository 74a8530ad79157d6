"""The API by its own description: whatever that allows, and much that it does not, is answered without a 5xx."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings

from bacpipes.tokens import Role
from conftest import database_from, make_settings
from exporter_parts import Exporter, add_building, add_reading, make_token_now, worker_page

EXAMPLES = 30  # of each operation
READY = '{"ready": true, "reasons": []}'
ENDLESS = "/api/monitoring/stream"
FEWEST = 12  # operations; a description that is empty would pass
ALLOWED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def api(postgres: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """The exporter's address and an admin's token."""
    for url in database_from(postgres, "migrated"):
        add_building(url)
        add_reading(url, 1, datetime.now(UTC), 21.5)
        headers = make_token_now(url, "fuzz", Role.ADMIN)
        state: Path = tmp_path_factory.mktemp("state")
        with (
            worker_page({"/readyz": (200, READY), "/metrics": (200, "")}) as port,
            Exporter(make_settings(url, state, worker_http_port=port)) as exporter,
        ):
            yield exporter.url, headers


def operations(url: str, headers: dict[str, str]) -> list[Any]:
    description = httpx.get(f"{url}/openapi.json", headers=headers).json()
    found = [result.ok() for result in schemathesis.openapi.from_dict(description).get_all_operations()]
    return [operation for operation in found if operation.path != ENDLESS]


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_nothing_that_is_asked_brings_it_down(
    api: tuple[str, dict[str, str]], mode: schemathesis.GenerationMode
) -> None:
    url, headers = api
    found = operations(url, headers)
    assert len(found) >= FEWEST
    asked = 0

    for operation in found:

        @seed(1)
        @ALLOWED
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            nonlocal asked
            asked += 1
            answer = case.call(base_url=url, headers=headers, timeout=60)
            assert answer.status_code < 500, f"{case.as_curl_command()}: {answer.status_code} {answer.text[:300]}"

        ask()
    assert asked > len(found)
    assert httpx.get(f"{url}/readyz").status_code == 200
