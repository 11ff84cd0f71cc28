"""``trunkline down``"""

from __future__ import annotations

import click

from trunkline.cli import teardown
from trunkline.cli.options import state_option, state_root
from trunkline.cli.progress import Steps
from trunkline.devices import machine
from trunkline.devices.state import StateFolder
from trunkline.errors import Conflict


@click.command("down")
@state_option
@click.option("--wipe", is_flag=True, help="Forget the cloud's data too: everything its users made.")
def command(wipe: bool) -> None:
    """Stop everything of the cloud: servers, daemons, namespaces. Its data is kept for the next `up`."""
    state = StateFolder(state_root())
    if not state.cloud_file.exists() and not state.run.exists():
        click.echo(f"There is no cloud in {state.root}.")
        return
    if not machine.is_root():
        raise Conflict("Namespaces and daemons of the cloud are root's: type `trunkline down` as root.")
    steps = Steps()
    with state.locked():
        with steps.step("stop") as step:
            teardown.stop_everything(state, step)
            step.note("servers, daemons, namespaces")
        if wipe:
            with steps.step("wipe") as step:
                left = teardown.wipe(state)
                step.note(f"left, as not ours: {', '.join(left)}" if left else str(state.root))
