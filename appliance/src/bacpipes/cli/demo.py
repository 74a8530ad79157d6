"""``bacpipes demo``."""

import click


@click.command()
@click.option("--once", is_flag=True, help="Check every step, then end; the exit status says whether all passed.")
def demo(once: bool) -> None:
    """A simulated building and a whole appliance, live: no root, no Docker. Stays up until Ctrl-C."""
    from bacpipes.demo import run

    run(once=once)
