"""Ansible's own ``linear`` strategy, whose modules run in one interpreter that stays on the machine (Mitogen).

Ansible starts a Python for every task, and onboarding a site is some 300 tasks: most of their time went into those
starts. ``ANSIBLE_STRATEGY=linear`` does without, and so does a controller that has no Mitogen.
"""

from collections.abc import Callable
from typing import Any

from ansible.plugins.loader import filter_loader, strategy_loader, test_loader

DOCUMENTATION = """
name: resident
short_description: Tasks in lockstep, in an interpreter that stays on the machine
description:
  - As C(linear). Modules run in one interpreter for each machine and user, by Mitogen where it is installed.
"""


def _or_local(decide: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda planner: decide(planner) or planner._inv.connection.transport == "local"


try:
    import ansible_mitogen.affinity
    import ansible_mitogen.loaders
    import ansible_mitogen.planner
    import ansible_mitogen.strategy
except ImportError:
    BASES: tuple[type, ...] = (strategy_loader.get("linear", class_only=True),)
else:
    linear = ansible_mitogen.loaders.strategy_loader.get("linear", class_only=True)
    BASES = (ansible_mitogen.strategy.StrategyMixin, linear)
    # It would pin processes to one processor each; an LXC container keeps what its starter was pinned to.
    ansible_mitogen.affinity.policy = ansible_mitogen.affinity.Policy()
    # An interpreter does one thing at a time: on the controller, where all hosts' tasks meet, each task gets a fork.
    Planner = ansible_mitogen.planner.NewStylePlanner
    Planner.should_fork = _or_local(Planner.should_fork)


class StrategyModule(*BASES):  # type: ignore[misc]
    """What Ansible looks for in this file."""

    def run(self, *arguments: Any) -> Any:
        """Play; what each task's fork would load for itself is loaded before the first."""
        filter_loader.get("default")  # any name: it loads the filters of all roles
        test_loader.get("defined")
        return super().run(*arguments)
