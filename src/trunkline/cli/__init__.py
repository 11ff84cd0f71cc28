"""The command `trunkline`. Each subcommand is a module of its own, imported when it is called."""

from __future__ import annotations

import importlib
import sys

import click

from trunkline import __version__
from trunkline.cli.options import state_option
from trunkline.errors import Refusal

#: Subcommand to its module (which has it as `command`) and what `--help` says of it.
COMMANDS = {
    "up": ("trunkline.cli.up", "Start the cloud, or mend it; harmless when it runs."),
    "down": ("trunkline.cli.down", "Stop everything of the cloud; --wipe forgets its data too."),
    "status": ("trunkline.cli.status", "What is observed of hosts, daemons, backend and servers."),
    "doctor": ("trunkline.cli.doctor", "What this machine can and cannot do, with remedies."),
    "ssh": ("trunkline.cli.ssh", "A shell in a server, from outside through its floating IP."),
    "logs": ("trunkline.cli.logs", "The logs of daemons."),
    "demo": ("trunkline.cli.demo", "Use cases, built and measured through the public API."),
    "appliance": ("trunkline.cli.appliance", "Firewalls, NAT and balancers that grow and shrink."),
    "host": ("trunkline.cli.host", "Real machines as hosts of a cloud."),
}


class _Lazy(click.Group):
    """Knows its subcommands by name, so that help does not import them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@state_option
@click.version_option(__version__, prog_name="trunkline")
def trunkline() -> None:
    """A cloud on this machine: networks, servers and the OpenStack APIs."""


def main() -> None:
    """Entry point: refusals end with their message and status 1, without a traceback."""
    try:
        trunkline(prog_name="trunkline")
    except Refusal as refusal:
        print(f"trunkline: {refusal.message}", file=sys.stderr)
        sys.exit(1)
