"""``trunkline ssh``"""

from __future__ import annotations

import os
import shutil
import sys
from typing import Any

import click

from trunkline.cli.api import Api
from trunkline.cli.options import state_option, state_root
from trunkline.devices import machine
from trunkline.devices.lab import Topology
from trunkline.devices.state import StateFolder
from trunkline.errors import Conflict, NotFound


@click.command("ssh", context_settings={"ignore_unknown_options": True})
@state_option
@click.option("--user", default="root", show_default=True, help="Whom to log in as.")
@click.argument("server")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND]")
def command(user: str, server: str, words: tuple[str, ...]) -> None:
    """A shell in a server, or one command: from the internet host of the lab, by its floating IP.

    SERVER is a name or an id. The operator's key is in every server of this cloud that asks the metadata
    service for its keys.
    """
    state = StateFolder(state_root())
    lab = Topology(state.load())
    if not machine.is_root():
        raise Conflict("Entering the lab's namespaces needs root: type `trunkline ssh` as root.")
    if shutil.which("ssh") is None:
        raise Conflict(f"There is no ssh. On Debian: {machine.apt_line(['openssh-client'])}")
    api = Api.open(state)
    found = api.find("compute", "/v2.1/servers/detail", "servers", server)
    address = floating_address(api, found)
    argv = ssh_argv(state, lab.internet, user, address, words, terminal=sys.stdin.isatty())
    os.execvp(argv[0], argv)


def floating_address(api: Api, server: dict[str, Any]) -> str:
    """The server's floating IP; the first, if it has several.

    Raises:
        NotFound: it has none; says what to type.
    """
    floating = sorted(
        address["addr"]
        for addresses in server["addresses"].values()
        for address in addresses
        if address.get("OS-EXT-IPS:type") == "floating"
    )
    if not floating:
        ports = api.get("network", "/v2.0/ports", device_id=server["id"])["ports"]
        mine = {port["id"] for port in ports}
        listed = api.get("network", "/v2.0/floatingips")["floatingips"]
        floating = sorted(f["floating_ip_address"] for f in listed if f["port_id"] in mine)
    if not floating:
        raise NotFound(
            f"The server {server['name']} has no floating IP, so it cannot be reached from outside. Type:\n"
            "    openstack floating ip create public\n"
            f"    openstack server add floating ip {server['name']} ADDRESS\n"
            "(Its network needs a router with a gateway in `public` for that.)"
        )
    return str(floating[0])


def ssh_argv(
    state: StateFolder,
    netns: str,
    user: str,
    address: str,
    words: tuple[str, ...] = (),
    *,
    terminal: bool = False,
    seconds: int = 10,
) -> list[str]:
    """OpenSSH, started in a namespace, with the operator's key.

    Host keys are not remembered: a floating IP is now this server, now that.
    """
    argv = ["ip", "netns", "exec", netns, "ssh", "-i", str(state.operator_key)]
    for option in (
        "IdentitiesOnly=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "LogLevel=ERROR",
        f"ConnectTimeout={seconds}",
        "PasswordAuthentication=no",
    ):
        argv += ["-o", option]
    if terminal and not words:
        argv.append("-t")
    return [*argv, f"{user}@{address}", *(["--", *words] if words else [])]
