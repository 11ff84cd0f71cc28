"""The Load Balancer API v2 on the wire: envelopes, null for defaults, fields without effect, errors.

Source: OpenStack's Load Balancer API v2 reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from trunkline.api.http import Request
from trunkline.api.network.dialect import listing as network_listing
from trunkline.api.query import Page, Query
from trunkline.errors import BadField, BadRequest, Refusal
from trunkline.resources.schema import Resource, spec_of

#: What stands around a resource in a body, where it is not its kind.
ENVELOPES = {
    "l7rule": "rule",
    "loadbalancer_availability_zone": "availability_zone",
    "loadbalancer_availability_zone_profile": "availability_zone_profile",
    "loadbalancer_flavor": "flavor",
    "loadbalancer_flavorprofile": "flavorprofile",
}
ALIASES = {"tenant_id": "project_id"}

_NO_KEYS = "certificates are kept by a key manager (Barbican), which this cloud does not have. Remove it."
_NO_TLS_CHOICE = "which TLS is spoken cannot be chosen. Remove it."
_PLUGGED = "the VIP is not of a server's port: it is carried by an appliance. Remove it."
#: Kind -> field -> why it is refused: what would have no effect is not taken.
REFUSED: Mapping[str, Mapping[str, str]] = {
    "loadbalancer": {
        "additional_vips": "a load balancer has one VIP. Order another load balancer for another address.",
        "vip_qos_policy_id": _PLUGGED,
        "vip_sg_ids": f"{_PLUGGED} Use allowed_cidrs of listeners.",
        "vip_vnic_type": _PLUGGED,
    },
    "listener": {
        "alpn_protocols": _NO_TLS_CHOICE,
        "client_authentication": _NO_KEYS,
        "client_ca_tls_container_ref": _NO_KEYS,
        "client_crl_container_ref": _NO_KEYS,
        "default_tls_container_ref": _NO_KEYS,
        "hsts_include_subdomains": _NO_KEYS,
        "hsts_max_age": _NO_KEYS,
        "hsts_preload": _NO_KEYS,
        "sni_container_refs": _NO_KEYS,
        "tls_ciphers": _NO_TLS_CHOICE,
        "tls_versions": _NO_TLS_CHOICE,
    },
    "pool": {
        "alpn_protocols": _NO_TLS_CHOICE,
        "ca_tls_container_ref": _NO_KEYS,
        "crl_container_ref": _NO_KEYS,
        "tls_ciphers": _NO_TLS_CHOICE,
        "tls_container_ref": _NO_KEYS,
        "tls_versions": _NO_TLS_CHOICE,
    },
    "member": {"vnic_type": "members are reached by their network, whatever their ports are. Remove it."},
}
#: What says nothing of a field: how clients write that they do not want it.
_NOTHING: tuple[Any, ...] = (None, "", [], {}, False, "NONE", "normal")


def error(refusal: Refusal, status: int, request_id: str) -> dict[str, Any]:
    """An error's body, as WSME writes it."""
    return {
        "faultcode": "Client" if status < 500 else "Server",
        "faultstring": refusal.message,
        "debuginfo": None,
    }


def envelope(cls: type[Resource]) -> str:
    """What stands around one of a kind."""
    kind = spec_of(cls).kind
    return ENVELOPES.get(kind, kind)


def given(body: Any, cls: type[Resource], *, creates: bool) -> dict[str, Any]:
    """The fields of a request: null is the default, and what has no effect is refused.

    Raises:
        BadRequest: it is no object. BadField: a field has no effect here.
    """
    spec = spec_of(cls)
    if not isinstance(body, Mapping):
        raise BadRequest(f"The body of {envelope(cls)} must be a JSON object.")
    fields = dict(body)
    for old, new in ALIASES.items():
        if old in fields:
            value = fields.pop(old)
            if fields.setdefault(new, value) != value:
                raise BadField(old, f"it contradicts {new}. Give one of them.")
    for name, why in REFUSED.get(spec.kind, {}).items():
        if name in fields and fields.pop(name) not in _NOTHING:
            raise BadField(name, why)
    defaults = {f.encode_name: f for f in msgspec.structs.fields(cls)}
    for name in [name for name, value in fields.items() if value is None and name in spec.by_wire]:
        found = spec.by_wire[name]
        if creates and not found.flags.required:
            del fields[name]
        elif not creates and not found.nullable and found.flags.update:
            default = defaults[name]
            factory = default.default_factory
            fields[name] = factory() if factory is not msgspec.NODEFAULT else default.default
    return fields


def refused_outputs(kind: str) -> dict[str, Any]:
    """What is shown of fields that are refused, for clients that look at them."""
    lists = ("additional_vips", "alpn_protocols", "sni_container_refs", "tls_versions", "vip_sg_ids")
    told: dict[str, Any] = {name: [] if name in lists else None for name in REFUSED.get(kind, {})}
    if "client_authentication" in told:
        told["client_authentication"] = "NONE"
    if "vip_vnic_type" in told:
        told["vip_vnic_type"] = "normal"
    if "vnic_type" in told:
        told["vnic_type"] = "normal"
    return told


def listing(request: Request, plural: str, query: Query, page: Page) -> dict[str, Any]:
    """The body of a list, with links to the pages beside it."""
    body = network_listing(request, plural, query, page)
    body.setdefault(f"{plural}_links", [])
    return body
