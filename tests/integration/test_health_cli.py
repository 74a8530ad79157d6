"""`bacpipes health`, as Docker's health checks call it."""

import json
from collections.abc import Callable

import pytest

from bacpipes.cli import main
from bacpipes.cli.health import PAGES
from bacpipes.embedded import free_port
from bacpipes.errors import ExitCode
from bacpipes.settings import PREFIX, Settings
from exporter_parts import worker_page

READY = (200, '{"ready": true, "reasons": []}')
UNREADY = (503, json.dumps({"ready": False, "reasons": [{"component": "mqtt", "reason": "Away.", "remedy": "Wait."}]}))
Health = Callable[..., tuple[int, str, str]]


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Health:
    """Runs `bacpipes health worker` against a port; gives status, standard output and standard error."""

    def run(port: object, *options: str, host: str = "127.0.0.1") -> tuple[int, str, str]:
        monkeypatch.setenv("BACPIPES_WORKER_HTTP_PORT", str(port))
        monkeypatch.setenv("BACPIPES_WORKER_HTTP_HOST", host)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(["health", "worker", *options])
        assert isinstance(ended.value.code, int)
        return (ended.value.code, *capsys.readouterr())

    return run


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 – a setting, nothing listens
def test_ready(health: Health, host: str) -> None:
    with worker_page({"/readyz": READY}) as port:
        assert health(port, host=host) == (ExitCode.OK, "The worker is ready.\n", "")


def test_not_ready_says_what_it_lacks(health: Health) -> None:
    with worker_page({"/readyz": UNREADY, "/healthz": READY}) as port:
        expected = (ExitCode.FAILED, "", "mqtt: Away. Wait.\nThe worker is not ready (HTTP 503).\n")
        assert health(port) == expected
        assert health(port, "--alive") == (ExitCode.OK, "The worker is alive.\n", "")


def test_what_is_no_answer_of_ours_is_not_ready(health: Health) -> None:
    with worker_page({"/readyz": (500, "<html>")}) as port:
        assert health(port) == (ExitCode.FAILED, "", "The worker is not ready (HTTP 500).\n")


def test_nobody_answers(health: Health) -> None:
    status, _, told = health(free_port())
    assert status == ExitCode.UNAVAILABLE
    assert "The worker does not answer" in told
    assert "Is it running?" in told


def test_a_port_that_is_none(health: Health) -> None:
    status, _, told = health("many")
    assert status == ExitCode.USAGE
    assert "BACPIPES_WORKER_HTTP_PORT: 'many' is no port." in told


def test_the_defaults_are_those_of_the_settings() -> None:
    for host_variable, host, port_variable, port in PAGES.values():
        for variable, default in ((host_variable, host), (port_variable, port)):
            field = Settings.model_fields[variable.removeprefix(PREFIX).lower()]
            assert str(field.default) == default
