"""``trunkline appliance``: network functions that grow and shrink, through the public API alone."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from trunkline.cli.options import json_option, state_option, state_root
from trunkline.errors import BadField, NotFound

if TYPE_CHECKING:
    from trunkline.cli.api import Api

F = TypeVar("F", bound=Callable[..., Any])
_MANY = "/v1/appliances"
#: How often a watched appliance is looked at, seconds.
_BEAT = 0.5
#: Option, field, and what it says.
_COUNTS = (
    ("--data-planes", "data_planes", "How many units forward packets."),
    ("--dispatchers", "dispatchers", "How many spread packets over them."),
    ("--managers", "managers", "How many give them their policy: 1 or 2."),
)


#: Option, field of `scaling`, type, and what it says.
_SCALING: tuple[tuple[str, str, Any, str], ...] = (
    ("--target-load", "target_load", float, "How much of their processors data planes are to use, 0 to 1."),
    ("--least", "least", int, "There are never fewer data planes."),
    ("--most", "most", int, "There are never more."),
    ("--cool-down", "cool_down", float, "One goes that was not needed for so many seconds."),
)


def _cloud_option(function: F) -> F:
    return click.option(
        "--cloud", default="trunkline", show_default=True, help="Whom to act as: an entry of clouds.yaml."
    )(function)


def _count_options(function: F) -> F:
    for option, _, text in reversed(_COUNTS):
        function = click.option(option, type=int, help=text)(function)
    return function


def _scaling_options(function: F) -> F:
    for option, _, kind, text in reversed(_SCALING):
        function = click.option(option, type=kind, help=text)(function)
    text = "Whether there are as many data planes as their load wants, or as `scale` says."
    return click.option("--auto/--by-command", "auto", default=None, help=text)(function)


def _scaling(given: dict[str, Any], known: dict[str, Any] | None) -> dict[str, Any]:
    """Takes the options of scaling out of those that were given; what of the field is to change."""
    auto = given.pop("auto")
    values = {field: given.pop(field) for _, field, _, _ in _SCALING}
    told = {field: value for field, value in values.items() if value is not None}
    if auto is False:
        if told:
            raise BadField("--by-command", f"it has no {', '.join(told)}. Leave that out, or give --auto.")
        return {"scaling": None}
    return {"scaling": {**(known or {}), **told}} if auto or told else {}


def _networks_option(function: F) -> F:
    text = "A further network, by name or id: zone net1, net2 and so on. Give it once for each."
    return click.option("--network", "networks", multiple=True, metavar="NETWORK", help=text)(function)


def _services(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> list[str]:
    return [name.strip() for each in value for name in each.split(",") if name.strip()]


def _api(cloud: str) -> Api:
    from trunkline.cli.api import Api
    from trunkline.devices.state import StateFolder

    state = StateFolder(state_root())
    state.load()
    return Api.open(state, cloud)


def _find(api: Api, appliance: str) -> dict[str, Any]:
    return api.find("appliance", _MANY, "appliances", appliance)


def _network(api: Api, option: str, name: str) -> str:
    try:
        return str(api.find("network", "/v2.0/networks", "networks", name)["id"])
    except NotFound as error:
        raise BadField(option, error.message) from None


@click.group("appliance")
@state_option
def command() -> None:
    """Firewalls, NAT and load balancers that grow, shrink and lose a unit while connections go on.

    An APPLIANCE is named by its name or its id.
    """


@command.command("create")
@click.argument("name")
@click.option(
    "--service",
    "services",
    multiple=True,
    required=True,
    callback=_services,
    metavar="NAME[,NAME]",
    help="firewall, nat, balancer: what it does, in this order.",
)
@click.option(
    "--inside", metavar="NETWORK", help="The network that it is the gateway of. A balancer needs none."
)
@click.option("--outside", required=True, metavar="NETWORK", help="The network on its far side.")
@_networks_option
@_count_options
@_scaling_options
@click.option("--cu-size", type=float, help="Processors of each unit. Default: 0.25.")
@click.option("--cu-memory", type=int, metavar="MIB", help="Memory of each unit. Default: 256.")
@click.option(
    "--runtime",
    type=click.Choice(["namespace", "server"]),
    help="What units are: processes in namespaces, or guests (with --cu-memory 384 or more).",
)
@click.option("--availability-zone", metavar="ZONE", help="The zone of the hosts that units are on.")
@click.option("--description", help="A text for people.")
@_cloud_option
@json_option
def create(
    name: str,
    services: list[str],
    inside: str | None,
    outside: str,
    networks: tuple[str, ...],
    cloud: str,
    as_json: bool,
    **more: Any,
) -> None:
    """Order an appliance."""
    api = _api(cloud)
    fields = {
        "name": name,
        "services": services,
        **({"inside_network_id": _network(api, "--inside", inside)} if inside else {}),
        "network_ids": [_network(api, "--network", each) for each in networks],
        "outside_network_id": _network(api, "--outside", outside),
        **_scaling(more, None),
        **{field: value for field, value in more.items() if value is not None},
    }
    _tell(api.post("appliance", _MANY, {"appliance": fields})["appliance"], as_json)


@command.command("list")
@_cloud_option
@json_option
def list_(cloud: str, as_json: bool) -> None:
    """List appliances."""
    found = _api(cloud).get("appliance", _MANY)["appliances"]
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for each in found:
        counts = f"{each['data_planes']} data planes, {each['dispatchers']} dispatchers"
        click.echo(
            f"{each['id']}  {each['status']:8}  {each['name']}  ({', '.join(each['services'])}; {counts})"
        )


@command.command("show")
@click.argument("appliance")
@click.option("--watch", is_flag=True, help="Go on showing it, until you press Ctrl-C or it is gone.")
@_cloud_option
@json_option
def show(appliance: str, watch: bool, cloud: str, as_json: bool) -> None:
    """Show an appliance: its units, what they carry, and what happened."""
    from trunkline.cli.appliance_picture import Picture

    api = _api(cloud)
    id = _find(api, appliance)["id"]
    picture = Picture()

    def look() -> dict[str, Any]:
        one = f"{_MANY}/{id}"
        return {
            "appliance": api.get("appliance", one)["appliance"],
            "units": api.get("appliance", f"{one}/units")["units"],
            "events": api.get("appliance", f"{one}/events")["events"],
        }

    if as_json:
        click.echo(json.dumps(look(), indent=2))
        return
    if not watch:
        picture.print(look())
        return
    with picture.live() as redraw:
        while True:
            redraw(look())
            time.sleep(_BEAT)


@command.command("set")
@click.argument("appliance")
@click.option("--name", help="Another name.")
@click.option("--description", help="Another text.")
@click.option("--service", "services", multiple=True, callback=_services, metavar="NAME[,NAME]")
@click.option("--up/--down", "admin_state_up", default=None, help="Whether it forwards packets.")
@_scaling_options
@_networks_option
@_cloud_option
@json_option
def set_(appliance: str, networks: tuple[str, ...], cloud: str, as_json: bool, **more: Any) -> None:
    """Change an appliance. Networks are added to those that it is on."""
    api = _api(cloud)
    found = _find(api, appliance)
    scaling = _scaling(more, found["scaling"])
    fields = {field: value for field, value in more.items() if value not in (None, [])}
    if networks:
        added = (_network(api, "--network", each) for each in networks)
        fields["network_ids"] = [*found["network_ids"], *added]
    where = f"{_MANY}/{found['id']}"
    _tell(api.put("appliance", where, {"appliance": {**fields, **scaling}})["appliance"], as_json)


@command.command("scale")
@click.argument("appliance")
@_count_options
@_cloud_option
@json_option
def scale(appliance: str, cloud: str, as_json: bool, **more: Any) -> None:
    """Have more units, or fewer. Those that are to go hand over their connections first."""
    fields = {field: value for field, value in more.items() if value is not None}
    if not fields:
        options = ", ".join(option for option, _, _ in _COUNTS)
        raise BadField("scale", f"how many of which units? Give one or more of {options}.")
    _change(appliance, cloud, fields, as_json)


def _change(appliance: str, cloud: str, fields: dict[str, Any], as_json: bool) -> None:
    api = _api(cloud)
    where = f"{_MANY}/{_find(api, appliance)['id']}"
    _tell(api.put("appliance", where, {"appliance": fields})["appliance"], as_json)


@command.group("policy")
def policy() -> None:
    """What an appliance does with packets: one document, taken whole or refused whole."""


@policy.command("set")
@click.argument("appliance")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@_cloud_option
def policy_set(appliance: str, file: Path, dry_run: bool, cloud: str) -> None:
    """Give an appliance the policy of FILE, which is YAML or JSON."""
    from trunkline.cli.api import ApiError
    from trunkline.resources.appliance_policy import parse, read

    source = read(file.read_text(errors="replace"), file.name)
    try:
        parse(source.document)
    except BadField as error:
        raise source.located(error) from None
    api = _api(cloud)
    where = f"{_MANY}/{_find(api, appliance)['id']}/policy{'?dry_run=true' if dry_run else ''}"
    try:
        told = api.put("appliance", where, {"policy": source.document})
    except ApiError as error:
        if not error.field:
            raise
        problem = error.message.partition(f"Invalid input for {error.field}: ")[2] or error.message
        raise source.located(BadField(error.field, problem)) from None
    for line in told["changes"]:
        click.echo(line)
    if not told["changes"]:
        click.echo("Nothing differs.")
    click.echo(f"Revision {told['revision']}{' it would be: nothing was changed' if dry_run else ''}.")


@policy.command("show")
@click.argument("appliance")
@_cloud_option
@json_option
def policy_show(appliance: str, cloud: str, as_json: bool) -> None:
    """Show the policy of an appliance."""
    api = _api(cloud)
    told = api.get("appliance", f"{_MANY}/{_find(api, appliance)['id']}/policy")
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    import yaml

    click.echo(f"# revision {told['revision']}")
    click.echo(yaml.safe_dump(told["policy"], sort_keys=False), nl=False)


@policy.command("blocks")
@click.argument("appliance")
@click.argument("address", default="")
@click.argument("port", type=click.IntRange(0, 65535), required=False)
@click.option(
    "--file",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Look at this policy, one of before: the appliance is not asked.",
)
@_cloud_option
def policy_blocks(appliance: str, address: str, port: int | None, file: Path | None, cloud: str) -> None:
    """Say which subscribers of carrier-grade translation have which ports, or who has PORT of ADDRESS."""
    from trunkline.resources.appliance_policy import parse, read
    from trunkline.resources.appliance_policy.carrier import blocks

    if file is not None:
        document = read(file.read_text(errors="replace"), file.name).document
    else:
        api = _api(cloud)
        document = api.get("appliance", f"{_MANY}/{_find(api, appliance)['id']}/policy")["policy"]
    # The rest is not looked at: keys are not shown.
    found = list(blocks(parse({"nat": document.get("nat") or {}}), address, port))
    if not found:
        what = f"{'port ' + str(port) + ' of ' if port is not None else ''}{address or 'any ports'}"
        raise NotFound(f"No subscriber has {what} by this policy.")
    for each in found:
        click.echo(f"{each.subscriber:<15}  {each.address:<15}  {each.ports}")


@command.command("drain")
@click.argument("appliance")
@click.argument("number", type=int)
@_cloud_option
def drain(appliance: str, number: int, cloud: str) -> None:
    """Have unit NUMBER replaced on another host, and then leave: for maintenance."""
    api = _api(cloud)
    unit = api.post("appliance", f"{_MANY}/{_find(api, appliance)['id']}/units/{number}/drain", {})["unit"]
    click.echo(f"Unit {unit['replaced_by']} comes; unit {number} leaves when that one does its work.")


@command.command("renew")
@click.argument("appliance")
@click.option("--abort", is_flag=True, help="Leave those that were not replaced yet as they are.")
@_cloud_option
def renew(appliance: str, abort: bool, cloud: str) -> None:
    """Have all units replaced by new ones, one after the other: a new version rolls through."""
    api = _api(cloud)
    where = f"{_MANY}/{_find(api, appliance)['id']}/renew"
    if abort:
        api.delete("appliance", where)
        click.echo("No further unit is replaced.")
        return
    told = api.post("appliance", where, {})["appliance"]["renewal"]
    click.echo(f"{told['units']} units are replaced, one after the other: see `show --watch`.")


@command.command("events")
@click.argument("appliance")
@_cloud_option
@json_option
def events(appliance: str, cloud: str, as_json: bool) -> None:
    """What happened in an appliance, and why; the newest last."""
    api = _api(cloud)
    told = api.get("appliance", f"{_MANY}/{_find(api, appliance)['id']}/events")["events"]
    if as_json:
        click.echo(json.dumps(told, indent=2))
        return
    for event in told:
        unit = f"unit {event['unit']}: " if event["unit"] is not None else ""
        cause = f" ({event['cause']})" if event["cause"] else ""
        click.echo(f"{event['at']}  {unit}{event['what']}{cause}")


@command.command("log")
@click.argument("appliance")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is logged from now on.")
@_cloud_option
@json_option
def log(appliance: str, follow: bool, cloud: str, as_json: bool) -> None:
    """The newest packets that rules with `log` of its firewall logged; the newest last."""
    from trunkline.cli.appliance_picture import packet_line

    api = _api(cloud)
    where = f"{_MANY}/{_find(api, appliance)['id']}/log"
    told = api.get("appliance", where)
    if as_json and not follow:
        click.echo(json.dumps(told, indent=2))
        return
    shown: dict[str, None] = {}
    more = 0
    while True:
        for packet in told["log"]:
            line = json.dumps(packet) if as_json else packet_line(packet)
            if line not in shown:
                click.echo(line)
            shown[line] = None
        if told["more"] > more and not as_json:
            click.echo(f"... and {told['more'] - more} more, which are not told one by one")
        more = max(more, told["more"])
        if not follow:
            return
        # What is not told any more does not come again.
        for line in list(shown)[:-1000]:
            del shown[line]
        time.sleep(2 * _BEAT)
        told = api.get("appliance", where)


@command.command("delete")
@click.argument("appliance")
@_cloud_option
def delete(appliance: str, cloud: str) -> None:
    """Delete an appliance, with all of its units."""
    api = _api(cloud)
    found = _find(api, appliance)
    api.delete("appliance", f"{_MANY}/{found['id']}")
    click.echo(f"Appliance {found['name'] or found['id']} is deleted.")


def _tell(appliance: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(appliance, indent=2))
        return
    from trunkline.cli.appliance_picture import Picture

    Picture().print({"appliance": appliance, "units": [], "events": []})
