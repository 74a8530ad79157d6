"""Runs with each scenario's tests, so that a scenario without a test file is red; conftest.py sees to the rest."""

from pathlib import Path

import pytest


def test_the_scenario_has_tests(request: pytest.FixtureRequest) -> None:
    here = Path(__file__)
    assert [item for item in request.session.items if Path(item.path) != here], "the scenario has no test"
