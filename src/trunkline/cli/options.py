"""Options that many subcommands have, and where the state folder is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def without_environment() -> Path:
    """By the XDG base directory specification: ~/.local/state/trunkline."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser().absolute() / "trunkline"


def _choose(ctx: click.Context, parameter: click.Parameter, value: Path | None) -> None:
    # Given after a subcommand's name it is meant for that; given before, for whichever follows.
    chosen = value or ctx.meta.get("state")
    if chosen is None:
        chosen = Path(os.environ["TRUNKLINE_STATE"]) if os.environ.get("TRUNKLINE_STATE") else None
    ctx.meta["state"] = chosen.expanduser().absolute() if chosen else without_environment()


def state_option(function: F) -> F:
    """``--state DIR``; found again by `state_folder`."""
    return click.option(
        "--state",
        type=click.Path(path_type=Path),
        callback=_choose,
        expose_value=False,
        is_eager=True,
        metavar="DIR",
        help="The state folder of the cloud. Default: $TRUNKLINE_STATE, or ~/.local/state/trunkline.",
    )(function)


def state_root() -> Path:
    """The state folder that the running command is for."""
    root: Path = click.get_current_context().meta["state"]
    return root


json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of tables.")
