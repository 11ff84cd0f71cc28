"""What a new cloud begins with: identities, flavors, the external network, the image `tiny`.

Everything is made once. What a user then changes or deletes is left as the user wants it: a claim in
the store remembers what was made.
"""

from __future__ import annotations

import asyncio
import secrets
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import yaml

from trunkline.api import compute, identity
from trunkline.api.context import CLOUD, Context
from trunkline.api.engine import Call
from trunkline.api.image.behaviour import register_image
from trunkline.api.network import rbac, security_rules, segments
from trunkline.api.network.security_groups import default_of
from trunkline.api.wiring import Api, catalog
from trunkline.devices import files
from trunkline.devices.image_files import ImageFiles
from trunkline.devices.state import Cloud, LabHost, StateFolder
from trunkline.devices.tiny import build, default_cache
from trunkline.resources.identity import Project
from trunkline.resources.network import Network, SecurityGroupRule, Subnet
from trunkline.resources.region import JoinToken
from trunkline.resources.schema import Resource, spec_of
from trunkline.store import Store, Tx

R = TypeVar("R", bound=Resource)
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
    hashes = await asyncio.gather(
        *(asyncio.to_thread(api.identity.passwords.hash_now, p) for p in (passwords.admin, passwords.demo))
    )
    options = identity.SeedOptions(
        base_url=cloud.api_url,
        region=cloud.region,
        admin_password_hash=hashes[0],
        demo_password_hash=hashes[1],
        services=catalog(),
    )
    seeded = await store.write(lambda tx: identity.seed(tx, options))
    await store.write(compute.seed)
    await store.write(lambda tx: _tokens(tx, cloud.hosts))
    admin = _of(seeded.admin_project_id)
    await _once(api, "default-rules", admin, lambda call: security_rules.seed(call.tx))
    await _once(api, "public", admin, _public)
    await _once(api, "sharing-policies", CLOUD, rbac.restore)
    await _once(api, "segments", admin, segments.adopt)
    await _once(api, "demo-rules", _of(seeded.demo_project_id), _demo_rules)
    _write_clouds(folder, cloud, passwords)


def _of(project_id: str) -> Context:
    """The cloud, acting in a project."""
    return replace(CLOUD, project_id=project_id)


async def _once(api: Api, name: str, context: Context, make: Callable[[Call], None]) -> None:
    """Makes something in one transaction with the memory that it was made."""

    def run(call: Call) -> None:
        if call.tx.claim_owner(_SCOPE, name) is None:
            make(call)
            call.tx.claim(_SCOPE, name, _OWNER)

    await api.engine.write(context, run)


def _public(call: Call) -> None:
    """The external network, on the lab's physical network."""
    flat = {"provider:network_type": "flat", "provider:physical_network": "physnet1"}
    network = _create(call, Network, {"name": "public", "router:external": True, **flat})
    for values in PUBLIC:
        name = f"public{values['ip_version']}"
        _create(call, Subnet, {"name": name, "network_id": network.id, **values})


def _demo_rules(call: Call) -> None:
    """Lets ping and SSH into the demo project's default group: a first server is to be reached."""
    group = default_of(call, call.context.project_id)
    for ethertype, icmp in (("IPv4", "icmp"), ("IPv6", "ipv6-icmp")):
        rule = {"security_group_id": group, "direction": "ingress", "ethertype": ethertype}
        _create(call, SecurityGroupRule, {**rule, "protocol": icmp})
        ssh = {"protocol": "tcp", "port_range_min": 22, "port_range_max": 22}
        _create(call, SecurityGroupRule, {**rule, **ssh})


def _create(call: Call, cls: type[R], body: dict[str, Any]) -> R:
    """Creates as a request with this body would."""
    return call.create(cls, spec_of(cls).parse_create(body))


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


async def tiny_image(
    store: Store, api: Api, images: ImageFiles, folder: StateFolder, progress: Progress
) -> None:
    """Builds the image `tiny` if it is not there, and registers it."""
    with store.read() as reader:
        if reader.claim_owner(_SCOPE, "tiny") is not None:
            return
        admin = reader.first(Project, name="admin")
    assert admin is not None
    id = str(uuid.uuid4())
    made = await asyncio.to_thread(build, images.path(id), default_cache(), progress)
    facts = await asyncio.to_thread(images.describe, images.path(id), made.disk_format)

    def register(tx: Tx) -> None:
        register_image(
            tx,
            id,
            "tiny",
            facts,
            disk_format=made.disk_format,
            project_id=admin.id,
            min_ram=made.min_ram_mib,
        )
        tx.claim(_SCOPE, "tiny", _OWNER)

    await store.write(register)


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
