"""The peer's configuration files, as its installation guides have them for ML2 with OVN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

Sections = Mapping[str, Mapping[str, object]]
PASSWORD = "peer"
WORKERS = 2


@dataclass(frozen=True)
class Ports:
    """TCP ports on loopback."""

    database: int
    cache: int
    keystone: int
    neutron: int


def write(root: Path, ports: Ports) -> None:
    """Writes all of them below a folder that has Neutron's own defaults already."""
    etc = root / "etc"
    _ini(etc / "neutron.conf", _neutron(root, ports))
    (etc / "plugins" / "ml2").mkdir(parents=True, exist_ok=True)
    _ini(etc / "plugins" / "ml2" / "ml2_conf.ini", _ml2(root))
    _ini(etc / "keystone.conf", _keystone(root, ports))
    for name, port, module in (
        ("neutron", ports.neutron, "neutron.wsgi.api:application"),
        ("keystone", ports.keystone, "keystone.wsgi.api:application"),
    ):
        _ini(etc / f"{name}-uwsgi.ini", _uwsgi(port, module))


def _ini(file: Path, sections: Sections) -> None:
    lines = []
    for section, options in sections.items():
        lines += [f"[{section}]", *(f"{name} = {value}" for name, value in options.items())]
    file.write_text("\n".join(lines) + "\n")


def database_url(name: str, port: int) -> str:
    """How a service reaches its database."""
    return f"mysql+pymysql://{name}:{PASSWORD}@127.0.0.1:{port}/{name}?charset=utf8mb4"


def _neutron(root: Path, ports: Ports) -> Sections:
    state, identity = root / "state", f"http://127.0.0.1:{ports.keystone}/v3"
    kinds = (
        "network", "subnet", "port", "router", "floatingip", "security_group", "security_group_rule",
    )  # fmt: skip
    return {
        "DEFAULT": {
            "auth_strategy": "keystone",
            "core_plugin": "ml2",
            "service_plugins": "ovn-router",
            "api_paste_config": root / "etc" / "api-paste.ini",
            "state_path": state,
            "transport_url": "fake://",
            "rpc_workers": 0,
            "rpc_state_report_workers": 0,
            "api_workers": WORKERS,
            "notify_nova_on_port_status_changes": "false",
            "notify_nova_on_port_data_changes": "false",
        },
        "oslo_concurrency": {"lock_path": state / "lock"},
        "oslo_messaging_notifications": {"driver": "noop"},
        "database": {"connection": database_url("neutron", ports.database)},
        "quotas": {"default_quota": -1, **{f"quota_{kind}": -1 for kind in kinds}},
        "keystone_authtoken": {
            "www_authenticate_uri": identity,
            "auth_url": identity,
            "memcached_servers": f"127.0.0.1:{ports.cache}",
            "auth_type": "password",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
            "project_name": "admin",
            "username": "admin",
            "password": PASSWORD,
        },
    }


def _ml2(root: Path) -> Sections:
    return {
        "ml2": {
            "mechanism_drivers": "ovn",
            "type_drivers": "local,flat,vlan,geneve",
            "tenant_network_types": "geneve",
            "extension_drivers": "port_security",
            "overlay_ip_version": 4,
        },
        "ml2_type_geneve": {"vni_ranges": "1:65536", "max_header_size": 38},
        "ml2_type_flat": {"flat_networks": "physnet1"},
        "securitygroup": {"enable_security_group": "true"},
        "ovn": {
            "ovn_nb_connection": f"unix:{root}/nb.sock",
            "ovn_sb_connection": f"unix:{root}/sb.sock",
            "ovn_l3_scheduler": "leastloaded",
            "ovn_metadata_enabled": "false",
        },
    }


def _keystone(root: Path, ports: Ports) -> Sections:
    return {
        "database": {"connection": database_url("keystone", ports.database)},
        "token": {"provider": "fernet"},
        "fernet_tokens": {"key_repository": root / "state" / "fernet"},
        "credential": {"key_repository": root / "state" / "credential"},
        "cache": {
            "enabled": "true",
            "backend": "oslo_cache.memcache_pool",
            "memcache_servers": f"127.0.0.1:{ports.cache}",
        },
    }


def _uwsgi(port: int, module: str) -> Sections:
    return {
        "uwsgi": {
            "http-socket": f"127.0.0.1:{port}",
            "listen": 128,
            "start-time": "%t",
            "lazy-apps": "true",
            "add-header": "Connection: close",
            "buffer-size": 65535,
            "thunder-lock": "true",
            "enable-threads": "true",
            "die-on-term": "true",
            "master": "true",
            "processes": WORKERS,
            "threads": 1,
            "disable-logging": "true",
            "module": module,
        }
    }
