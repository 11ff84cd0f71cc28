"""A valid request for every endpoint that takes a JSON body, and what can be wrong with one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from api_lab import ApiLab

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMbiG5uZdmVaTbQGTiVkKl0OsxXkU5rXrn7CYmWX5mQF somebody"


class Things:
    """One of everything that the requests below refer to; the demo project's, where a project has it."""

    def __init__(self, lab: ApiLab) -> None:
        self.lab = lab
        self._unlimited()
        network = self._maker("/network/v2.0", "demo")
        self.network = network("networks", network={"name": "net"})
        self.subnet = network(
            "subnets", subnet={"network_id": self.network, "ip_version": 4, "cidr": "10.0.0.0/16"}
        )
        self.port = network("ports", port={"network_id": self.network})
        self.router = network("routers", router={"name": "router"})
        self.group = network("security-groups", security_group={"name": "group"})
        self.rule = network(
            "security-group-rules",
            security_group_rule={"security_group_id": self.group, "direction": "ingress"},
        )
        (public,) = lab.ok("GET", "/network/v2.0/networks?name=public")["networks"]
        self.public = str(public["id"])
        self.floatingip = network("floatingips", floatingip={"floating_network_id": self.public})

        identity = self._maker("/identity/v3", "admin")
        self.project = lab.projects["demo"]
        self.user = lab.users["demo"]
        self.admin = lab.users["admin"]
        self.dummies = {
            "domain": identity("domains", domain={"name": "dummy"}),
            "project": identity("projects", project={"name": "dummy"}),
            "user": identity("users", user={"name": "dummy", "password": "secret"}),
            "group": identity("groups", group={"name": "dummy"}),
            "role": identity("roles", role={"name": "dummy"}),
            "region": identity("regions", region={"id": "dummy"}),
            "service": identity("services", service={"type": "dummy"}),
        }
        self.dummies["endpoint"] = identity(
            "endpoints",
            endpoint={"service_id": self.dummies["service"], "interface": "public", "url": "http://dummy"},
        )
        self.dummies["endpoint_group"] = identity(
            "OS-EP-FILTER/endpoint_groups",
            endpoint_group={"name": "dummy", "filters": {"interface": "public"}},
        )
        self.credential = self._maker("/identity/v3", "demo")(
            "credentials", credential={"type": "cert", "blob": "secret"}
        )

        compute = self._maker("/compute/v2.1", "demo")
        self.server = compute(
            "servers",
            server={
                "name": "s",
                "imageRef": lab.image,
                "flavorRef": "1",
                "networks": [{"uuid": self.network}],
            },
        )
        self.server_group = compute("os-server-groups", server_group={"name": "g", "policies": ["affinity"]})
        admin = self._maker("/compute/v2.1", "admin")
        self.flavor = admin(
            "flavors",
            flavor={"name": "own", "vcpus": 1, "ram": 1, "disk": 0, "os-flavor-access:is_public": False},
        )
        self.aggregate = str(admin("os-aggregates", aggregate={"name": "a"}))
        self.image = str(
            lab.ok("POST", "/image/v2/images", {"name": "i", "visibility": "shared"}, by="demo")["id"]
        )
        other = {"member": lab.projects["other"]}
        lab.ok("POST", f"/image/v2/images/{self.image}/members", other, by="demo")

    def _unlimited(self) -> None:
        kinds = ("network", "subnet", "port", "router", "floatingip", "security_group", "security_group_rule")
        project = self.lab.projects["demo"]
        self.lab.ok("PUT", f"/network/v2.0/quotas/{project}", {"quota": {kind: -1 for kind in kinds}})
        names = ("instances", "cores", "ram", "key_pairs", "server_groups", "metadata_items")
        self.lab.ok(
            "PUT", f"/compute/v2.1/os-quota-sets/{project}", {"quota_set": {name: -1 for name in names}}
        )

    def _maker(self, base: str, by: str) -> Callable[..., str]:
        def make(path: str, **body: Any) -> str:
            reply = self.lab.ok("POST", f"{base}/{path}", body, by=by)
            return str(next(iter(reply.values()))["id"])

        return make


@dataclass(frozen=True)
class Valid:
    """A valid request: what is wrong with any copy of it is what was changed in it."""

    #: POST /network/v2.0/networks; a parameter stands as {name}.
    endpoint: str
    path: str
    body: Any
    by: str = "demo"
    headers: Mapping[str, str] | None = None

    @property
    def method(self) -> str:
        return self.endpoint.partition(" ")[0]

    @property
    def service(self) -> str:
        return self.path.split("/")[1]


LATEST = {"openstack-api-version": "compute 2.96"}


def valid_requests(t: Things) -> Iterator[Valid]:
    """One for every endpoint that takes a JSON body, or more."""
    yield from _network(t)
    yield from _identity(t)
    yield from _compute(t)
    yield from _image(t)


def _network(t: Things) -> Iterator[Valid]:
    def collection(
        path: str, kind: str, id: str, create: dict[str, Any], update: dict[str, Any]
    ) -> Iterator[Valid]:
        base = f"/network/v2.0/{path}"
        yield Valid(f"POST {base}", base, {kind: create})
        yield Valid(f"POST {base}", base, {f"{kind}s": [create]})
        yield Valid(f"PUT {base}/{{id}}", f"{base}/{id}", {kind: update})
        yield Valid(f"PUT {base}/{{id}}/tags", f"{base}/{id}/tags", {"tags": ["one"]})

    owner = {"project_id": t.project, "description": "d", "name": "n"}
    yield from collection(
        "networks",
        "network",
        t.network,
        {**owner, "tags": ["t"], "admin_state_up": True, "mtu": 1400, "port_security_enabled": True},
        {"name": "m", "description": "e", "admin_state_up": True, "mtu": 0},
    )
    yield Valid(
        "POST /network/v2.0/networks",
        "/network/v2.0/networks",
        {
            "network": {
                "shared": False,
                "router:external": False,
                "provider:network_type": "vlan",
                "provider:physical_network": "physnet1",
                "provider:segmentation_id": 101,
                "vlan_transparent": False,
            }
        },
        "admin",
    )
    yield from collection(
        "subnets",
        "subnet",
        t.subnet,
        {
            **owner,
            "network_id": t.network,
            "ip_version": 4,
            "cidr": "10.1.0.0/24",
            "gateway_ip": "10.1.0.1",
            "allocation_pools": [{"start": "10.1.0.10", "end": "10.1.0.20"}],
            "enable_dhcp": True,
            "dns_nameservers": ["9.9.9.9"],
            "host_routes": [{"destination": "10.2.0.0/24", "nexthop": "10.1.0.2"}],
        },
        {
            "gateway_ip": "10.0.0.1",
            "allocation_pools": [{"start": "10.0.0.2", "end": "10.0.255.254"}],
            "dns_nameservers": ["9.9.9.9"],
            "host_routes": [{"destination": "10.2.0.0/24", "nexthop": "10.0.0.2"}],
        },
    )
    yield Valid(
        "POST /network/v2.0/subnets",
        "/network/v2.0/subnets",
        {
            "subnet": {
                "network_id": t.network,
                "ip_version": 6,
                "cidr": "fd00:1::/64",
                "ipv6_ra_mode": "slaac",
                "ipv6_address_mode": "slaac",
            }
        },
    )
    yield from collection(
        "ports",
        "port",
        t.port,
        {
            **owner,
            "network_id": t.network,
            "fixed_ips": [{"subnet_id": t.subnet}],
            "device_id": "d",
            "device_owner": "nobody:x",
            "security_groups": [t.group],
            "allowed_address_pairs": [{"ip_address": "10.0.9.9", "mac_address": "fa:16:3e:00:00:77"}],
            "extra_dhcp_opts": [{"opt_name": "mtu", "opt_value": "1400", "ip_version": 4}],
            "port_security_enabled": True,
            "admin_state_up": True,
        },
        {
            "fixed_ips": [{"subnet_id": t.subnet, "ip_address": "10.0.7.7"}],
            "security_groups": [t.group],
            "allowed_address_pairs": [{"ip_address": "10.0.9.9"}],
            "extra_dhcp_opts": [{"opt_name": "mtu", "opt_value": "1400"}],
            "device_id": "d",
        },
    )
    yield Valid(
        "POST /network/v2.0/ports",
        "/network/v2.0/ports",
        {
            "port": {
                "network_id": t.network,
                "mac_address": "fa:16:3e:00:00:99",
                "binding:host_id": "h1",
                "binding:vnic_type": "normal",
                "binding:profile": {"a": "b"},
            }
        },
        "admin",
    )
    gateway = {"network_id": t.public, "enable_snat": True}
    yield from collection(
        "routers",
        "router",
        t.router,
        {**owner, "admin_state_up": True},
        {"name": "m", "external_gateway_info": {"network_id": t.public}},
    )
    yield Valid(
        "PUT /network/v2.0/routers/{id}",
        f"/network/v2.0/routers/{t.router}",
        {
            "router": {
                "external_gateway_info": {**gateway, "external_fixed_ips": [{"ip_address": "203.0.113.99"}]}
            }
        },
        "admin",
    )
    route = {"destination": "10.9.0.0/24", "nexthop": "203.0.113.77"}
    for verb in ("add", "remove"):
        yield Valid(
            f"PUT /network/v2.0/routers/{{id}}/{verb}_router_interface",
            f"/network/v2.0/routers/{t.router}/{verb}_router_interface",
            {"subnet_id": t.subnet},
        )
        yield Valid(
            f"PUT /network/v2.0/routers/{{id}}/{verb}_extraroutes",
            f"/network/v2.0/routers/{t.router}/{verb}_extraroutes",
            {"router": {"routes": [route]}},
        )
    yield from collection(
        "floatingips",
        "floatingip",
        t.floatingip,
        {"project_id": t.project, "floating_network_id": t.public, "description": "d", "port_id": None},
        {"port_id": None, "description": "d"},
    )
    yield from collection(
        "security-groups",
        "security_group",
        t.group,
        {**owner, "stateful": True},
        {"name": "m", "description": "e", "stateful": True},
    )
    yield from collection(
        "security-group-rules",
        "security_group_rule",
        t.rule,
        {
            "security_group_id": t.group,
            "direction": "ingress",
            "ethertype": "IPv4",
            "protocol": "tcp",
            "port_range_min": 80,
            "port_range_max": 81,
            "remote_ip_prefix": "10.0.0.0/8",
            "description": "d",
        },
        {"description": "d"},
    )
    quotas = "/network/v2.0/quotas/{project}"
    path = f"/network/v2.0/quotas/{t.lab.projects['other']}"
    yield Valid(f"PUT {quotas}", path, {"quota": {"network": 5, "port": -1}}, "admin")


def _identity(t: Things) -> Iterator[Valid]:
    base = "/identity/v3"
    made = {
        "domain": ("domains", {"name": "d", "description": "d", "enabled": True, "tags": ["t"], "options": {"immutable": False}}),
        "project": ("projects", {"name": "p", "domain_id": "default", "parent_id": "default", "enabled": True, "is_domain": False, "tags": ["t"]}),
        "user": ("users", {"name": "u", "domain_id": "default", "default_project_id": t.project, "email": "a@b", "enabled": True, "password": "secret", "options": {"lock_password": False}}),
        "group": ("groups", {"name": "g", "domain_id": "default", "description": "d"}),
        "role": ("roles", {"name": "r", "description": "d", "domain_id": None, "options": {"immutable": False}}),
        "region": ("regions", {"id": "r", "description": "d", "parent_region_id": "RegionOne"}),
        "service": ("services", {"type": "t", "name": "n", "description": "d", "enabled": True}),
        "endpoint": ("endpoints", {"service_id": t.dummies["service"], "interface": "public", "url": "http://x", "region_id": "RegionOne", "enabled": True}),
        "endpoint_group": ("OS-EP-FILTER/endpoint_groups", {"name": "n", "filters": {"interface": "public", "service_id": t.dummies["service"]}, "description": "d"}),
    }  # fmt: skip
    for kind, (path, create) in made.items():
        fixed = ("domain_id", "parent_id", "is_domain", "id")
        update = {k: v for k, v in create.items() if k not in fixed}
        yield Valid(f"POST {base}/{path}", f"{base}/{path}", {kind: create}, "admin")
        yield Valid(
            f"PATCH {base}/{path}/{{id}}", f"{base}/{path}/{t.dummies[kind]}", {kind: update}, "admin"
        )
    yield Valid(
        f"PUT {base}/regions/{{id}}", f"{base}/regions/elsewhere", {"region": {"description": "d"}}, "admin"
    )
    yield Valid(
        f"POST {base}/credentials",
        f"{base}/credentials",
        {"credential": {"type": "cert", "blob": "b", "user_id": t.user, "project_id": t.project}},
    )
    yield Valid(
        f"PATCH {base}/credentials/{{id}}",
        f"{base}/credentials/{t.credential}",
        {"credential": {"blob": "c"}},
    )
    programs = f"{base}/users/{t.user}/application_credentials"
    yield Valid(
        f"POST {base}/users/{{user_id}}/application_credentials",
        programs,
        {
            "application_credential": {
                "name": "n",
                "description": "d",
                "expires_at": "2100-01-01T00:00:00Z",
                "unrestricted": False,
                "secret": "s",
                "roles": [{"name": "member"}],
                "access_rules": [{"service": "network", "method": "GET", "path": "/v2.0/**"}],
            }
        },
    )
    yield Valid(
        f"POST {base}/OS-TRUST/trusts",
        f"{base}/OS-TRUST/trusts",
        {
            "trust": {
                "trustor_user_id": t.user,
                "trustee_user_id": t.lab.users["otto"],
                "impersonation": False,
                "project_id": t.project,
                "expires_at": "2100-01-01T00:00:00Z",
                "remaining_uses": 3,
                "roles": [{"name": "member"}],
            }
        },
    )
    keys = f"{base}/users/{t.user}/credentials/OS-EC2"
    yield Valid(f"POST {base}/users/{{user_id}}/credentials/OS-EC2", keys, {"tenant_id": t.project})
    yield Valid(
        f"POST {base}/users/{{id}}/password",
        f"{base}/users/{t.dummies['user']}/password",
        {"user": {"password": "secret", "original_password": "wrong"}},
    )
    tags = f"{base}/projects/{t.dummies['project']}/tags"
    yield Valid(f"PUT {base}/projects/{{id}}/tags", tags, {"tags": ["one"]}, "admin")
    login = {"user": {"name": "dummy", "domain": {"id": "default"}, "password": "secret"}}
    domain = {"domain": {"name": "Default"}}
    yield Valid(
        f"POST {base}/auth/tokens",
        f"{base}/auth/tokens",
        {
            "auth": {
                "identity": {"methods": ["password"], "password": login},
                "scope": {"project": {"name": "dummy", **domain}},
            }
        },
    )
    yield Valid(
        f"POST {base}/auth/tokens",
        f"{base}/auth/tokens",
        {"auth": {"identity": {"methods": ["token"], "token": {"id": t.lab.tokens["demo"]}}}},
    )
    secret = {"name": "n", "user": {"id": t.user}, "secret": "s"}
    yield Valid(
        f"POST {base}/auth/tokens",
        f"{base}/auth/tokens",
        {"auth": {"identity": {"methods": ["application_credential"], "application_credential": secret}}},
    )


def _compute(t: Things) -> Iterator[Valid]:
    base = "/compute/v2.1"
    server = {
        "name": "n",
        "imageRef": t.lab.image,
        "flavorRef": "1",
        "networks": [{"uuid": t.network, "tag": "x"}],
        "metadata": {"a": "b"},
        "adminPass": "p",
        "availability_zone": "nova",
        "config_drive": True,
        "key_name": None,
        "min_count": 1,
        "max_count": 1,
        "security_groups": [{"name": "default"}],
        "user_data": "aGVsbG8=",
        "description": "d",
        "tags": ["t"],
        "hostname": "h",
        "accessIPv4": "10.0.0.9",
        "accessIPv6": "fd00::9",
        "OS-DCF:diskConfig": "AUTO",
        "return_reservation_id": False,
    }
    del server["key_name"]
    hints = {"os:scheduler_hints": {"group": t.server_group}}
    yield Valid(f"POST {base}/servers", f"{base}/servers", {"server": server, **hints}, headers=LATEST)
    old = {
        "name": "n",
        "imageRef": t.lab.image,
        "flavorRef": 1,
        "networks": [{"uuid": t.network, "fixed_ip": "10.0.3.3"}],
    }
    yield Valid(f"POST {base}/servers", f"{base}/servers", {"server": old})
    one = f"{base}/servers/{t.server}"
    update = {
        "name": "m",
        "description": "d",
        "hostname": "h",
        "accessIPv4": "10.0.0.9",
        "OS-DCF:diskConfig": "AUTO",
    }
    yield Valid(f"PUT {base}/servers/{{id}}", one, {"server": update}, headers=LATEST)
    at = f"{base}/servers/{{id}}"
    rebuild = {"imageRef": t.lab.image, "name": "n", "adminPass": "p", "metadata": {"a": "b"}, "description": "d", "user_data": "aGVsbG8=", "preserve_ephemeral": False, "key_name": None, "hostname": "h"}  # fmt: skip
    actions: list[tuple[Any, str]] = [
        ({"os-start": None}, "demo"),
        ({"os-stop": None}, "demo"),
        ({"pause": None}, "demo"),
        ({"unpause": None}, "demo"),
        ({"reboot": {"type": "SOFT"}}, "demo"),
        ({"rebuild": rebuild}, "demo"),
        ({"lock": {"locked_reason": "r"}}, "demo"),
        ({"unlock": None}, "demo"),
        ({"os-resetState": {"state": "active"}}, "admin"),
        ({"injectNetworkInfo": None}, "admin"),
        ({"addSecurityGroup": {"name": "default"}}, "demo"),
        ({"removeSecurityGroup": {"name": "default"}}, "demo"),
        ({"os-getConsoleOutput": {"length": 10}}, "demo"),
        ({"resize": {"flavorRef": "2"}}, "demo"),
    ]
    for body, by in actions:
        yield Valid(f"POST {at}/action", f"{one}/action", body, by, LATEST)
    yield Valid(f"POST {at}/action", f"{one}/action", {"addFixedIp": {"networkId": t.network}})
    yield Valid(f"POST {at}/action", f"{one}/action", {"removeFixedIp": {"address": "10.0.0.3"}})
    attach = {"net_id": t.network, "fixed_ips": [{"ip_address": "10.0.4.4"}], "tag": "t"}
    yield Valid(
        f"POST {at}/os-interface", f"{one}/os-interface", {"interfaceAttachment": attach}, headers=LATEST
    )
    yield Valid(
        f"POST {at}/os-interface", f"{one}/os-interface", {"interfaceAttachment": {"port_id": t.port}}
    )
    volumes = f"{one}/os-volume_attachments"
    yield Valid(f"POST {at}/os-volume_attachments", volumes, {"volumeAttachment": {"volumeId": t.port}})
    yield Valid(
        f"PUT {at}/os-volume_attachments/{{volume}}",
        f"{volumes}/{t.port}",
        {"volumeAttachment": {"volumeId": t.port}},
    )
    yield Valid(f"PUT {at}/metadata", f"{one}/metadata", {"metadata": {"a": "b"}})
    yield Valid(f"POST {at}/metadata", f"{one}/metadata", {"metadata": {"a": "b"}})
    yield Valid(f"PUT {at}/metadata/{{key}}", f"{one}/metadata/a", {"meta": {"a": "b"}})
    yield Valid(f"PUT {at}/tags", f"{one}/tags", {"tags": ["a"]}, headers=LATEST)
    console = {"remote_console": {"protocol": "vnc", "type": "novnc"}}
    yield Valid(f"POST {at}/remote-consoles", f"{one}/remote-consoles", console, headers=LATEST)
    events = {
        "events": [
            {"name": "network-vif-plugged", "server_uuid": t.server, "status": "completed", "tag": t.port}
        ]
    }
    yield Valid(
        f"POST {base}/os-server-external-events", f"{base}/os-server-external-events", events, "admin", LATEST
    )
    flavor = {"name": "f", "id": "f", "vcpus": 1, "ram": 1, "disk": 1, "swap": 1, "rxtx_factor": 1.5, "OS-FLV-EXT-DATA:ephemeral": 1, "os-flavor-access:is_public": True, "description": "d"}  # fmt: skip
    yield Valid(f"POST {base}/flavors", f"{base}/flavors", {"flavor": flavor}, "admin", LATEST)
    own = f"{base}/flavors/{t.flavor}"
    yield Valid(f"PUT {base}/flavors/{{id}}", own, {"flavor": {"description": "d"}}, "admin", LATEST)
    yield Valid(
        f"POST {base}/flavors/{{id}}/action",
        f"{own}/action",
        {"addTenantAccess": {"tenant": t.project}},
        "admin",
    )
    specs = {"extra_specs": {"hw:cpu_policy": "shared"}}
    yield Valid(f"POST {base}/flavors/{{id}}/os-extra_specs", f"{own}/os-extra_specs", specs, "admin", LATEST)
    spec = {"hw:cpu_policy": "shared"}
    yield Valid(
        f"PUT {base}/flavors/{{id}}/os-extra_specs/{{key}}",
        f"{own}/os-extra_specs/hw:cpu_policy",
        spec,
        "admin",
        LATEST,
    )
    pair = {"name": "k", "public_key": KEY, "type": "ssh", "user_id": t.user}
    yield Valid(f"POST {base}/os-keypairs", f"{base}/os-keypairs", {"keypair": pair}, headers=LATEST)
    group = {"name": "g", "policy": "anti-affinity", "rules": {"max_server_per_host": 2}}
    yield Valid(
        f"POST {base}/os-server-groups", f"{base}/os-server-groups", {"server_group": group}, headers=LATEST
    )
    older = {"name": "g", "policies": ["affinity"]}
    yield Valid(f"POST {base}/os-server-groups", f"{base}/os-server-groups", {"server_group": older})
    service = {"host": "h1", "binary": "nova-compute", "disabled_reason": "r"}
    yield Valid(f"PUT {base}/os-services/{{id}}", f"{base}/os-services/disable-log-reason", service, "admin")
    yield Valid(
        f"PUT {base}/os-services/{{id}}", f"{base}/os-services/h1", {"status": "enabled"}, "admin", LATEST
    )
    aggregate = {"name": "z", "availability_zone": "z"}
    yield Valid(
        f"POST {base}/os-aggregates", f"{base}/os-aggregates", {"aggregate": aggregate}, "admin", LATEST
    )
    zone = f"{base}/os-aggregates/{t.aggregate}"
    yield Valid(
        f"PUT {base}/os-aggregates/{{id}}",
        zone,
        {"aggregate": {"name": "b", "availability_zone": "y"}},
        "admin",
    )
    for action in (
        {"add_host": {"host": "h1"}},
        {"remove_host": {"host": "h1"}},
        {"set_metadata": {"metadata": {"a": "b"}}},
    ):
        yield Valid(f"POST {base}/os-aggregates/{{id}}/action", f"{zone}/action", action, "admin")
    other = t.lab.projects["other"]
    quota = {"quota_set": {"instances": 5, "force": True}}
    yield Valid(f"PUT {base}/os-quota-sets/{{project}}", f"{base}/os-quota-sets/{other}", quota, "admin")
    classes = {"quota_class_set": {"instances": 50}}
    yield Valid(
        f"PUT {base}/os-quota-class-sets/{{name}}", f"{base}/os-quota-class-sets/default", classes, "admin"
    )


def _image(t: Things) -> Iterator[Valid]:
    base = "/image/v2/images"
    create = {"name": "n", "visibility": "private", "protected": False, "os_hidden": False, "disk_format": "raw", "container_format": "bare", "min_disk": 1, "min_ram": 1, "tags": ["t"], "own": "property"}  # fmt: skip
    yield Valid(f"POST {base}", base, create)
    one = f"{base}/{t.image}"
    patch = [{"op": "replace", "path": "/name", "value": "m"}, {"op": "add", "path": "/mine", "value": "v"}]
    yield Valid(
        f"PATCH {base}/{{id}}",
        one,
        patch,
        headers={"content-type": "application/openstack-images-v2.1-json-patch"},
    )
    older = [{"replace": "/name", "value": "m"}]
    yield Valid(
        f"PATCH {base}/{{id}}",
        one,
        older,
        headers={"content-type": "application/openstack-images-v2.0-json-patch"},
    )
    yield Valid(f"POST {base}/{{id}}/import", f"{one}/import", {"method": {"name": "glance-direct"}})
    yield Valid(f"POST {base}/{{id}}/members", f"{one}/members", {"member": t.lab.projects["admin"]})
    member = f"{one}/members/{t.lab.projects['other']}"
    yield Valid(f"PUT {base}/{{id}}/members/{{member}}", member, {"status": "accepted"}, "otto")


# What can be wrong.

HUGE = "x" * 1_000_000
#: What nothing takes, wherever it stands.
POISON: tuple[tuple[str, Any], ...] = (
    ("NUL", "a\x00b"),
    ("surrogate", "\ud800"),
    ("beyond 64 bits", 2**64),
    ("far below", -(2**63) - 1),
    ("a megabyte", HUGE),
)
#: One of each JSON type, and borders.
TYPES: tuple[Any, ...] = (
    None,
    True,
    3,
    -1,
    0,
    2**63 - 1,
    1.5,
    1e300,
    "",
    " ",
    "text",
    "☃",
    [],
    {},
    [[]],
    [None],
    [{}],
    {"a": {}},
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where every value of a body is, the body itself left out."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def found(body: Any, path: tuple[Any, ...]) -> Any:
    """What stands at a place."""
    for key in path:
        body = body[key]
    return body


def changed(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy with another value at a place."""
    body = copy.deepcopy(body)
    found(body, path[:-1])[path[-1]] = value
    return body


def without(body: Any, path: tuple[Any, ...]) -> Any:
    """A copy without what stands at a place."""
    body = copy.deepcopy(body)
    del found(body, path[:-1])[path[-1]]
    return body
