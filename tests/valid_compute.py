"""A valid request for every endpoint of the Compute API that takes a JSON body."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from things import LATEST, Things, Valid

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMbiG5uZdmVaTbQGTiVkKl0OsxXkU5rXrn7CYmWX5mQF somebody"


def compute_requests(t: Things) -> Iterator[Valid]:
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
    rebuild = {
        "imageRef": t.lab.image,
        "name": "n",
        "adminPass": "p",
        "metadata": {"a": "b"},
        "description": "d",
        "user_data": "aGVsbG8=",
        "preserve_ephemeral": False,
        "key_name": None,
        "hostname": "h",
    }
    actions: list[tuple[Any, str]] = [
        ({"os-start": None}, "demo"),
        ({"os-stop": None}, "demo"),
        ({"pause": None}, "demo"),
        ({"rescue": {"adminPass": "secret", "rescue_image_ref": t.lab.image}}, "demo"),
        ({"unpause": None}, "demo"),
        ({"suspend": None}, "demo"),
        ({"resume": None}, "demo"),
        ({"reboot": {"type": "SOFT"}}, "demo"),
        ({"rebuild": rebuild}, "demo"),
        ({"lock": {"locked_reason": "r"}}, "demo"),
        ({"unlock": None}, "demo"),
        ({"os-resetState": {"state": "active"}}, "admin"),
        ({"injectNetworkInfo": None}, "admin"),
        ({"addSecurityGroup": {"name": "default"}}, "demo"),
        ({"removeSecurityGroup": {"name": "default"}}, "demo"),
        ({"os-getConsoleOutput": {"length": 10}}, "demo"),
        ({"shelve": None}, "demo"),
        ({"shelveOffload": None}, "admin"),
        ({"os-migrateLive": {"host": None, "block_migration": "auto"}}, "admin"),
        ({"unshelve": {"availability_zone": "nova", "host": "h1"}}, "admin"),
        ({"createImage": {"name": "i", "metadata": {"a": "b"}}}, "demo"),
        ({"createBackup": {"name": "b", "backup_type": "daily", "rotation": 1, "metadata": {}}}, "demo"),
        ({"resize": {"flavorRef": "2"}}, "demo"),
        ({"resize": {"flavorRef": "2", "OS-DCF:diskConfig": "AUTO"}}, "demo"),
        ({"confirmResize": None}, "demo"),
        ({"revertResize": None}, "demo"),
        ({"migrate": {"host": "h2"}}, "admin"),
    ]
    for body, by in actions:
        yield Valid(f"POST {at}/action", f"{one}/action", body, by, LATEST)
    yield Valid(f"POST {at}/action", f"{one}/action", {"addFixedIp": {"networkId": t.network}})
    yield Valid(f"POST {at}/action", f"{one}/action", {"removeFixedIp": {"address": "10.0.0.3"}})
    force = {"force_complete": None}
    yield Valid(
        f"POST {at}/migrations/{{migration}}/action", f"{one}/migrations/1/action", force, "admin", LATEST
    )
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
    yield Valid(f"POST {at}/shares", f"{one}/shares", {"share": {"share_id": t.port}}, headers=LATEST)
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
    flavor = {
        "name": "f",
        "id": "f",
        "vcpus": 1,
        "ram": 1,
        "disk": 1,
        "swap": 1,
        "rxtx_factor": 1.5,
        "OS-FLV-EXT-DATA:ephemeral": 1,
        "os-flavor-access:is_public": True,
        "description": "d",
    }
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
