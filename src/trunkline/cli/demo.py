"""``trunkline demo``"""

from __future__ import annotations

import importlib
import importlib.util

import click

from trunkline.cli.options import state_option

#: Each a module of `trunkline.cli.demos` with a click command `command`.
DEMOS = {
    "appliance": "A firewall with NAT that grows, shrinks and loses a unit while connections go on.",
    "dmz": "Web, application and database networks behind routers; who reaches whom, wanted and measured.",
    "office": "A desktop moved between networks while it runs, nothing in the underlay changed.",
}


class _Demos(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in DEMOS if importlib.util.find_spec(f"trunkline.cli.demos.{name}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f"trunkline.cli.demos.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = self.list_commands(ctx)
        if found:
            with formatter.section("Demos"):
                formatter.write_dl([(name, DEMOS[name]) for name in found])


@click.group("demo", cls=_Demos)
@state_option
def command() -> None:
    """Use cases, built and measured through the public API alone."""
