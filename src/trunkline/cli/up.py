"""``trunkline up``"""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Literal

import click

from trunkline.cli.lifecycle import DEFAULT_HOSTS, DEFAULT_PORT, Wish, bring_up, wait_for_image
from trunkline.cli.options import json_option, state_option, state_root, without_environment
from trunkline.cli.progress import Steps
from trunkline.devices.state import StateFolder
from trunkline.errors import BadField
from trunkline.resources.types import ip_address

#: A physical network and its hosts. Bridges are named after it, and interfaces have names of 15 characters.
_FURTHER = re.compile(r"((?!physnet1=)[a-z][a-z0-9]{0,9})=(h\d{1,2}(?:,h\d{1,2})*)")


@click.command("up")
@state_option
@click.option("--hosts", type=int, metavar="N", help=f"How many lab hosts. Default: {DEFAULT_HOSTS}.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    metavar="N",
    help=f"Port of the APIs on loopback; 0 for any that is free. Default: {DEFAULT_PORT}.",
)
@click.option(
    "--expose/--no-expose",
    default=None,
    help="Give this machine itself a leg on the external network (203.0.113.0/24). Off by default.",
)
@click.option(
    "--datapath",
    type=click.Choice(["netdev", "system"]),
    help="Open vSwitch in user space, as on every machine, or in the kernel. Default: netdev.",
)
@click.option(
    "--encapsulation", type=click.Choice(["geneve", "vxlan"]), help="Of the tunnels. Default: geneve."
)
@click.option(
    "--accelerator", type=click.Choice(["auto", "kvm", "tcg"]), help="Of the guests. Default: by trying."
)
@click.option(
    "--databases",
    type=click.Choice([1, 3]),
    help="Members of each of OVN's databases: alone, or a cluster of three. Default: 1.",
)
@click.option(
    "--dns-forwarder",
    "dns_forwarders",
    multiple=True,
    metavar="ADDRESS",
    help="A name server that hosts ask for their guests, as they reach it; several are tried in turn. 'none' "
    "for none again. Default: none; guests resolve the names of their own networks alone.",
)
@click.option(
    "--physical-network",
    "physical_networks",
    multiple=True,
    metavar="NAME=HOST[,HOST]",
    help="A further physical network, and the hosts that it leads to, as rack1=h1,h2. Settled at the first "
    "start of a host. Default: all hosts have physnet1, and nothing else.",
)
@click.option("--prove", is_flag=True, help="Start a first server, reach it, and take it away again.")
@json_option
def command(
    hosts: int | None,
    port: int | None,
    expose: bool | None,
    datapath: Literal["netdev", "system"] | None,
    encapsulation: Literal["geneve", "vxlan"] | None,
    accelerator: Literal["auto", "kvm", "tcg"] | None,
    databases: Literal[1, 3] | None,
    dns_forwarders: tuple[str, ...],
    physical_networks: tuple[str, ...],
    prove: bool,
    as_json: bool,
) -> None:
    """Start the cloud of the state folder, or mend it: what is there is kept, what is missing is made.

    After a reboot, or when everything was killed, it brings the same cloud back, its servers too.
    """
    # Being told to end is like Ctrl-C: what was begun is undone.
    signal.signal(signal.SIGTERM, _interrupted)
    state = StateFolder(state_root())
    steps = Steps()
    wish = Wish(
        hosts,
        port,
        expose,
        datapath,
        encapsulation,
        accelerator,
        databases,
        _forwarders(dns_forwarders),
        _further(physical_networks),
    )
    cloud = bring_up(state, wish, steps)
    usable = steps.total
    wait_for_image(state, cloud, steps)
    if prove:
        from trunkline.cli.prove import prove_with_a_server

        prove_with_a_server(state, cloud, steps)
    if as_json:
        told = {
            "state": str(state.root),
            "tag": cloud.tag,
            "api": cloud.api_url,
            "hosts": [host.name for host in cloud.hosts],
            "clouds_yaml": str(state.clouds_yaml),
            "seconds": {name: round(seconds, 3) for name, seconds in steps.times.items()},
            "seconds_to_api_and_hosts": round(usable, 3),
        }
        click.echo(json.dumps(told, indent=2))
    else:
        click.echo(f"\nThe cloud is up: API and hosts after {usable:.1f} s, all after {steps.total:.1f} s.\n")
        click.echo(_what_next(state))


def _forwarders(given: tuple[str, ...]) -> tuple[str, ...] | None:
    """The name servers that were named, None where nothing was said.

    Raises:
        BadField: one is no address.
    """
    if given in ((), ("none",)):
        return () if given else None
    try:
        return tuple(dict.fromkeys(map(ip_address, given)))
    except ValueError as error:
        raise BadField("--dns-forwarder", str(error)) from None


def _further(given: tuple[str, ...]) -> dict[str, tuple[str, ...]] | None:
    """The hosts of each physical network that was named, None where nothing was said.

    Raises:
        BadField: one is written in another way, or named twice.
    """
    found: dict[str, tuple[str, ...]] = {}
    for text in given:
        match = _FURTHER.fullmatch(text)
        if match is None:
            raise BadField(
                "--physical-network",
                f"'{text[:80]}' is not of the form NAME=HOST[,HOST], with a name of up to 10 small letters "
                "and digits, as rack1=h1,h2.",
            )
        if match[1] in found:
            raise BadField("--physical-network", f"{match[1]} is named twice. Give all its hosts at once.")
        found[match[1]] = tuple(match[2].split(","))
    return found or None


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _what_next(state: StateFolder) -> str:
    """The lines to type next, complete for this state folder and this shell."""
    lines = [f"export OS_CLIENT_CONFIG_FILE={state.clouds_yaml} OS_CLOUD=trunkline"]
    if state.root != without_environment():
        lines.append(f"export TRUNKLINE_STATE={state.root}")
    programs = Path(sys.executable).parent
    if (programs / "trunkline").exists() and sys.prefix != sys.base_prefix:
        lines.append(f"export PATH={programs}:$PATH")
    lines += [
        "openstack network create web",
        "openstack subnet create --network web --subnet-range 10.0.0.0/24 web4",
        "openstack router create edge",
        "openstack router set --external-gateway public edge",
        "openstack router add subnet edge web4",
        "openstack server create --image tiny --flavor tiny --network web --wait s1",
        "openstack floating ip create public        # prints an address",
        "openstack server add floating ip s1 ADDRESS",
        "trunkline ssh s1",
        "trunkline status",
    ]
    return "Type next:\n\n" + "\n".join(f"    {line}" for line in lines) + "\n"
