"""``trunkline host``: real machines (or anything with an Open vSwitch of its own) as hosts of a cloud."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import click

from trunkline.cli.options import json_option, state_option, state_root
from trunkline.devices.state import StateFolder
from trunkline.errors import BadField, BadRequest, Unavailable


@click.group("host")
@state_option
def command() -> None:
    """Real machines as hosts of a cloud."""


@command.command("token")
@json_option
def token(as_json: bool) -> None:
    """Make a join token, good for one host and one hour; type the line that this prints on that machine."""
    from trunkline.cli.api import get_json

    state = StateFolder(state_root())
    cloud = state.load()
    try:
        headers = {"X-Trunkline-Key": (state.run / "status.key").read_text().strip()}
        made = get_json(f"{cloud.api_url}/join-tokens", headers=headers, method="POST")
        if "token" not in made:
            raise OSError(str(made))
    except OSError as error:
        raise Unavailable(f"No token was made: {error}. `trunkline status` shows why.") from None
    if as_json:
        click.echo(json.dumps(made, indent=2))
    else:
        click.echo(
            f"trunkline host join --control {made['control']} --token {made['token']} "
            "--name NAME --underlay-address ADDRESS"
        )


@command.command("promise")
@click.argument("name")
@click.option(
    "--bandwidth",
    multiple=True,
    metavar="LINK=EGRESS[:INGRESS]",
    help="What ports may be promised of a link, kbit/s: of a physical network, or of 'tunnels'. "
    "LINK=auto for its speed. May be repeated.",
)
@click.option("--packet-rate", type=click.IntRange(0, 2**31 - 1), metavar="KPPS", help="... of packets.")
@json_option
def promise(name: str, bandwidth: tuple[str, ...], packet_rate: int | None, as_json: bool) -> None:
    """Say what host NAME can promise to ports by QoS rules of least rates, and show what it does.

    Until it is said, a link promises as much as its interface is fast, and no rate of packets is promised.
    """
    from trunkline.cli.api import get_json

    wanted: dict[str, Any] = {"links": dict(_rates(each) for each in bandwidth)}
    if packet_rate is not None:
        wanted["packet_rate_kpps"] = packet_rate
    state = StateFolder(state_root())
    cloud = state.load()
    url = f"{cloud.api_url}/hosts/{quote(name, safe='')}/promises"
    try:
        headers = {"X-Trunkline-Key": (state.run / "status.key").read_text().strip()}
        answer = get_json(url, headers=headers, method="PUT", body=wanted)
    except OSError as error:
        raise Unavailable(f"Control does not answer: {error}. `trunkline status` shows why.") from None
    if "error" in answer:
        raise BadRequest(answer["error"])
    if as_json:
        click.echo(json.dumps(answer, indent=2))
        return
    for each in answer["promises"]:
        what = " ".join(filter(None, (each["link"], each["what"])))
        click.echo(f"{what}: {each['held']} of {each['offered']} {each['unit']} are promised")


def _rates(text: str) -> tuple[str, list[int] | None]:
    """LINK=EGRESS[:INGRESS] or LINK=auto.

    Raises:
        BadField: it is of another form.
    """
    link, _, rates = text.rpartition("=")
    egress, _, ingress = rates.partition(":")
    try:
        if link and rates == "auto":
            return link, None
        if link:
            return link, [int(egress), int(ingress or egress)]
    except ValueError:
        pass
    raise BadField(
        "--bandwidth", f"'{text}' is not of the form LINK=EGRESS[:INGRESS], in kbit/s, or LINK=auto."
    )


@command.command("join")
@click.option("--control", required=True, metavar="URL", help="The host channel: https://ADDRESS:8443.")
@click.option("--token", required=True, help="A join token, as SECRET.FINGERPRINT.")
@click.option("--name", required=True, help="The host's name in the region.")
@click.option("--underlay-address", required=True, metavar="ADDRESS", help="Its own, for the tunnels.")
@click.option(
    "--physical-network",
    "physical",
    multiple=True,
    metavar="NAME=BRIDGE",
    help="A physical network that an Open vSwitch bridge of this machine leads to. May be repeated.",
)
@click.option(
    "--ovsdb",
    default="unix:/var/run/openvswitch/db.sock",
    show_default=True,
    metavar="unix:PATH",
    help="This machine's Open_vSwitch database.",
)
@click.option("--datapath", type=click.Choice(["system", "netdev"]), help="Default: by what the kernel has.")
@click.option("--encapsulation", type=click.Choice(["geneve", "vxlan"]), default="geneve", show_default=True)
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    default=Path("/var/lib/trunkline"),
    show_default=True,
    help="Where the agent keeps everything of its own.",
)
@click.option("--run/--no-run", default=True, help="Start the agent too, detached. On by default.")
def join(
    control: str,
    token: str,
    name: str,
    underlay_address: str,
    physical: tuple[str, ...],
    ovsdb: str,
    datapath: Literal["system", "netdev"] | None,
    encapsulation: str,
    directory: Path,
    run: bool,
) -> None:
    """Make this machine a host of a cloud, with its own Open vSwitch and ovn-controller.

    Gets a certificate for the token, and starts the agent. Once joined, the agent alone is started anew,
    as after a reboot: `python -m trunkline.agent --config DIRECTORY/agent.json`.
    """
    import asyncio

    from trunkline.agent import join as agent
    from trunkline.devices import machine, process
    from trunkline.devices.process import Command
    from trunkline.devices.units import python_environment, python_unit_argv

    networks = {}
    for pair in physical:
        network, equals, bridge = pair.partition("=")
        if not (network and equals and bridge):
            raise BadField("--physical-network", f"'{pair}' is not of the form NAME=BRIDGE.")
        networks[network] = bridge
    directory = directory.absolute()
    chosen = datapath or ("system" if machine.has_openvswitch_module() else "netdev")
    config = agent.prepare(
        directory=directory,
        control=control,
        token=token,
        name=name,
        underlay_address=underlay_address,
        ovsdb=ovsdb,
        datapath=chosen,
        encapsulation=encapsulation,
        physical_networks=networks,
    )
    if agent.is_joined(config):
        click.echo(f"{name} has joined before; its certificate in {directory} is kept.")
    else:
        asyncio.run(agent.join(config))
        click.echo(f"{name} has joined the region at {control}.")
    start = python_unit_argv("trunkline.agent", "--config", str(directory / "agent.json"))
    if not run:
        click.echo(f"Start its agent: {' '.join(start)}")
        return
    pidfile = directory / "agent.pid"
    if (running := process.find(pidfile)) is not None:
        running.terminate(10.0)
    started = process.spawn(
        Command("agent", start, directory / "agent.log", env=python_environment()), pidfile
    )
    click.echo(f"Its agent runs (pid {started.pid}); its log is {directory / 'agent.log'}.")
