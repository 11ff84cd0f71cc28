"""What a new cloud begins with: identities, flavors, the external network, the image `tiny`.

Everything is made once. What a user then changes or deletes is left as the user wants it: a claim in
the store remembers what was made.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from trunkline.api import compute, identity
from trunkline.api.context import CLOUD, Context
from trunkline.api.engine import Call
from trunkline.api.image.behaviour import register_image
from trunkline.api.wiring import Api
from trunkline.devices import files
from trunkline.devices.image_files import ImageFiles
from trunkline.devices.state import Cloud, LabHost, StateFolder
from trunkline.resources.identity import Project
from trunkline.resources.image import Image
from trunkline.resources.network import Network, SecurityGroup, SecurityGroupRule, Subnet
from trunkline.resources.region import JoinToken
from trunkline.store import Store, Tx

Progress = Callable[[str], None]

_SCOPE = "seed"
_OWNER = "cloud"
#: How long a lab host's join token is good for, seconds.
_TOKEN_LIFE = 3650 * 86400.0
PUBLIC = (
    {"ip_version": 4, "cidr": "203.0.113.0/24", "gateway_ip": "203.0.113.1", "enable_dhcp": False,
     "allocation_pools": [{"start": "203.0.113.10", "end": "203.0.113.250"}]},
    {"ip_version": 6, "cidr": "2001:db8:113::/64", "gateway_ip": "2001:db8:113::1", "enable_dhcp": False},
)  # fmt: skip


class Passwords(msgspec.Struct, kw_only=True):
    """The passwords of the first users (``STATE/keys/passwords.json``, readable by the owner alone)."""

    admin: str
    demo: str


async def run(store: Store, api: Api, folder: StateFolder, cloud: Cloud) -> None:
    """Seeds what is missing, and writes clouds.yaml."""
    passwords = _passwords(folder.root / "keys" / "passwords.json")
    seeded = await identity.seed(
        store, api.passwords, url=cloud.api_url, region=cloud.region, users=msgspec.structs.asdict(passwords)
    )
    await store.write(compute.seed)
    await store.write(lambda tx: _tokens(tx, cloud.hosts))
    await _once(api, "public", _public)
    await _once(api, "demo-rules", lambda call: _demo_rules(call, seeded.demo_project_id))
    _write_clouds(folder, cloud, passwords)


async def _once(api: Api, name: str, make: Callable[[Call], None]) -> None:
    """Makes something in one transaction with the memory that it was made."""

    def run(call: Call) -> None:
        if call.tx.claim_owner(_SCOPE, name) is None:
            make(call)
            call.tx.claim(_SCOPE, name, _OWNER)

    await api.engine.write(CLOUD, run)


def _public(call: Call) -> None:
    admin = call.tx.first(Project, name="admin")
    assert admin is not None
    network = call.create(
        Network,
        {
            "name": "public",
            "project_id": admin.id,
            "external": True,
            "network_type": "flat",
            "physical_network": "physnet1",
        },
    )
    for values in PUBLIC:
        parsed = {
            "name": f"public{values['ip_version']}",
            "project_id": admin.id,
            "network_id": network.id,
            **_parsed(Subnet, {"network_id": network.id, **values}),
        }
        call.create(Subnet, parsed)


def _parsed(cls: type[Subnet], values: dict[str, Any]) -> dict[str, Any]:
    from trunkline.resources.schema import spec_of

    return spec_of(cls).parse_create(values)


def _demo_rules(call: Call, project_id: str) -> None:
    """Lets ping and SSH into the demo project's default group: a first server is to be reached."""
    inside = Call(call.engine, _as_project(project_id), call.tx)
    group = default_group(inside, project_id)
    for values in (
        {"protocol": "icmp", "ethertype": "IPv4"},
        {"protocol": "ipv6-icmp", "ethertype": "IPv6"},
        {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22, "ethertype": "IPv4"},
        {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22, "ethertype": "IPv6"},
    ):
        inside.create(
            SecurityGroupRule,
            {"security_group_id": group.id, "direction": "ingress", "project_id": project_id, **values},
        )


def _as_project(project_id: str) -> Context:
    return msgspec.convert({}, Context) if not project_id else _cloud_in(project_id)


def _tokens(tx: Tx, hosts: tuple[LabHost, ...]) -> None:
    """The lab's hosts may join: `up` made their tokens, and told them to the hosts alone."""
    for host in hosts:
        if tx.get(JoinToken, host.token_digest) is None:
            tx.insert(
                JoinToken(
                    id=host.token_digest,
                    host=host.name,
                    created_at=host.token_at,
                    expires_at=time.time() + _TOKEN_LIFE,
                )
            )


def _passwords(file: Path) -> Passwords:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Passwords)
    except FileNotFoundError:
        made = Passwords(admin=secrets.token_urlsafe(15), demo=secrets.token_urlsafe(15))
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        files.replace(file, msgspec.json.encode(made), 0o600)
        return made


def _write_clouds(folder: StateFolder, cloud: Cloud, passwords: Passwords) -> None:
    """clouds.yaml, as openstacksdk and the openstack command read it."""

    def entry(user: str, password: str) -> dict[str, Any]:
        return {
            "auth": {
                "auth_url": f"{cloud.api_url}/identity/v3",
                "username": user,
                "password": password,
                "project_name": user,
                "user_domain_name": "Default",
                "project_domain_name": "Default",
            },
            "region_name": cloud.region,
            "identity_api_version": 3,
        }

    content = {
        "clouds": {
            "trunkline": entry("demo", passwords.demo),
            "trunkline-admin": entry("admin", passwords.admin),
        }
    }
    text = yaml.safe_dump(content, sort_keys=False).encode()
    if not folder.clouds_yaml.exists() or folder.clouds_yaml.read_bytes() != text:
        files.replace(folder.clouds_yaml, text, 0o600)
