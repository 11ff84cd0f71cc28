"""Runs OpenStack's own tests (tempest) on a running cloud, and prints a table by area.

    python conformance/run.py --state DIR [--list FILE ...] [--area AREA ...] [--expect FILE ...] [--vxlan]

The suites are pinned in requirements.txt and live in a virtual environment of their own, which this
makes beside it at first. The configuration is made from the cloud as it is: what it lists as its
extensions is what is demanded of it. A test passes or it does not: a skipped one is told of, and
is no pass. `empty_cloud.txt` names the tests that pass even on a stub that checks nothing; the last
column is net of them. Areas that the cloud does not offer are not run, and the table says which.

Images that the tests have the cloud fetch come from a web server on loopback, which stands on the
operator's list of sources (image-sources.yaml in the state folder) for as long as the run takes.

A region carries its overlay by one encapsulation. With --vxlan, the tests that need another one are run on
a cloud of their own, of one host, which is started and taken away again.

With --expect, the exit status is 1 if a test of those files does not pass.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import copy
import http.server
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import urllib.request
import venv
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).resolve().parent
ENVIRONMENT = HERE.parent / ".venv-conformance"
AREAS = {
    "tempest.api.identity": "identity",
    "tempest.api.image": "image",
    "tempest.api.network": "network",
    "tempest.api.compute": "compute",
    "neutron_tempest_plugin.api": "network, Neutron's own",
    "neutron_tempest_plugin.fwaas": "network, firewalls",
    "neutron_tempest_plugin.tap_as_a_service": "network, mirrors",
    "octavia_tempest_plugin.tests.api": "load balancers",
}
#: The area of all tests that boot servers, by the list that they are in.
SERVERS = "servers"
#: What this cloud does not offer; of no area.
LEFT_OUT = {
    "neutron_tempest_plugin.vpnaas": "VPNs",
    "neutron_tempest_plugin.sfc": "service chains",
    "neutron_tempest_plugin.bgpvpn": "BGP VPNs",
    "neutron_tempest_plugin.neutron_dynamic_routing": "dynamic routing",
}
#: Tests that need something else in the configuration: what finds them, and section, option and value.
#: The suite uploads random bytes under each format it is told of, and anything is of four of them; what is
#: claimed to be of another is looked into, and refused where it is not. Members of UDP are of the family of
#: their VIP, as with Octavia's own provider, and the suite's are of IPv4.
APART = (
    ("ImportImages", ("image", "disk_formats", "raw,qcow2,iso")),
    (r"MemberAPITest\w*\.test_UDP_", ("load_balancer", "test_with_ipv6", "false")),
)


class Api:
    """Requests to the cloud, as its administrator."""

    def __init__(self, auth: dict[str, str]) -> None:
        self.identity = auth["auth_url"]
        self.root = self.identity.removesuffix("/identity/v3")
        domain = {"name": auth["user_domain_name"]}
        body = {
            "auth": {
                "identity": {
                    "methods": ["password"],
                    "password": {
                        "user": {"name": auth["username"], "domain": domain, "password": auth["password"]}
                    },
                },
                "scope": {"project": {"name": auth["project_name"], "domain": domain}},
            }
        }
        request = self._request(f"{self.identity}/auth/tokens", "POST", body, {})
        with urllib.request.urlopen(request, timeout=30) as reply:
            self.token = reply.headers["X-Subject-Token"]

    def _request(self, url: str, method: str, body: Any, headers: dict[str, str]) -> urllib.request.Request:
        data = None if body is None else json.dumps(body).encode()
        return urllib.request.Request(
            url, data, {"Content-Type": "application/json", **headers}, method=method
        )

    def get(self, path: str) -> Any:
        """The JSON of a path below the root of the APIs."""
        return self._call(path, "GET", None)

    def post(self, path: str, body: Any) -> Any:
        """As `get`, with a body."""
        return self._call(path, "POST", body)

    def _call(self, path: str, method: str, body: Any) -> Any:
        request = self._request(f"{self.root}{path}", method, body, {"X-Auth-Token": self.token})
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)


def environment() -> Path:
    """The `bin` folder of the suites' virtual environment, made if it is not there."""
    binaries, wanted = ENVIRONMENT / "bin", (HERE / "requirements.txt").read_text()
    stamp = ENVIRONMENT / "requirements"
    if not stamp.exists() or stamp.read_text() != wanted:
        print("Installing the suites (once) ...", flush=True)
        venv.create(ENVIRONMENT, with_pip=True)
        pip = [str(binaries / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "uv"], check=True)
        subprocess.run(
            [str(binaries / "uv"), "pip", "install", "--quiet", "--python", str(binaries / "python"),
             "-r", str(HERE / "requirements.txt")],
            check=True,
        )  # fmt: skip
        stamp.write_text(wanted)
    return binaries


def configuration(
    api: Api, admin: dict[str, str], workspace: Path, image_url: str
) -> configparser.ConfigParser:
    """tempest.conf for this cloud.

    Args:
        image_url: where the cloud may fetch a qcow2 image.
    """
    public = api.get("/network/v2.0/networks?router:external=true")["networks"][0]
    images = [i["id"] for i in api.get("/image/v2/images?status=active")["images"]]
    flavors = {f["name"]: f["id"] for f in api.get("/compute/v2.1/flavors")["flavors"]}
    first, second = [*flavors.values(), *flavors.values()][:2]
    aliases = sorted(e["alias"] for e in api.get("/network/v2.0/extensions")["extensions"])
    versions = {v["id"]: v for v in api.get("/compute/")["versions"]}
    newest = versions["v2.1"]["version"] or "2.1"
    config = configparser.ConfigParser(interpolation=None)
    (workspace / "logs").mkdir(exist_ok=True)
    (workspace / "lock").mkdir(exist_ok=True)
    config.read_dict(
        {
            "DEFAULT": {"log_dir": str(workspace / "logs"), "log_file": "tempest.log", "use_stderr": "false"},
            "oslo_concurrency": {"lock_path": str(workspace / "lock")},
            "auth": {
                "use_dynamic_credentials": "true",
                "admin_username": admin["username"],
                "admin_password": admin["password"],
                "admin_project_name": admin["project_name"],
                "admin_domain_name": "Default",
                "default_credentials_domain_name": "Default",
                "create_isolated_networks": "true",
            },
            "identity": {
                "auth_version": "v3",
                "uri_v3": admin["auth_url"],
                "uri": admin["auth_url"],
                "catalog_type": "identity",
                "region": "RegionOne",
                "v3_endpoint_type": "public",
                "admin_role": "admin",
                "default_domain_id": "default",
            },
            "identity-feature-enabled": {
                "api_extensions": "all",
                "trust": "true",
                "access_rules": "true",
                "domain_specific_drivers": "false",
                "security_compliance": "false",
                "federation": "false",
                "external_idp": "false",
            },
            "service_available": dict.fromkeys(("cinder", "swift", "horizon", "heat", "ironic"), "false")
            | dict.fromkeys(("neutron", "nova", "glance", "load_balancer"), "true"),
            "network": {
                "public_network_id": public["id"],
                "floating_network_name": public["name"],
                "project_network_cidr": "10.100.0.0/16",
                "project_network_mask_bits": "28",
                "project_network_v6_cidr": "2001:db8::/48",
                "project_network_v6_mask_bits": "64",
                "project_networks_reachable": "false",
                "build_timeout": "30",
            },
            "network-feature-enabled": {
                "ipv6": "true",
                "ipv6_subnet_attributes": "true",
                "port_admin_state_change": "true",
                "port_security": "true",
                "floating_ips": "true",
                "available_features": "all",
                "api_extensions": ",".join(aliases),
            },
            "neutron_plugin_options": {
                "available_type_drivers": "flat,vlan,vxlan,geneve",
                "create_shared_resources": "true",
                "max_networks_per_project": "4",
                "specify_floating_ip_address_available": "true",
                "agent_availability_zone": "nova",
                "firewall_driver": "ovn",
                "provider_net_base_segm_id": "3000",
                "provider_vlans": public["provider:physical_network"],
            },
            "compute": {
                "image_ref": images[0],
                "image_ref_alt": images[-1],
                "flavor_ref": first,
                "flavor_ref_alt": second,
                "build_interval": "1",
                "build_timeout": "90",
                "min_compute_nodes": "2",
                "min_microversion": "2.1",
                "max_microversion": newest,
            },
            "compute-feature-enabled": dict.fromkeys(
                ("vnc_console", "change_password", "personality", "swap_volume"),
                "false",
            )
            | dict.fromkeys(
                ("pause", "suspend", "rescue", "resize", "cold_migration", "live_migration", "shelve",
                 "snapshot", "block_migration_for_live_migration", "interface_attach", "console_output",
                 "config_drive"),
                "true",
            )
            | {"metadata_service": "true"},
            "image": {
                "container_formats": "bare,ami,ari,aki,ovf,ova",
                "disk_formats": "raw,ami,ari,aki",
                "http_qcow2_image": image_url,
                "build_timeout": "60",
            },
            "image-feature-enabled": {
                "import_image": "true",
                "os_glance_reserved": "true",
                # Formats are enforced; this is about random bytes under formats that say nothing of content.
                "image_format_enforcement": "false",
            },
            # Images of servers are made without volumes; this lets the tests of them run.
            "volume-feature-enabled": {"enable_volume_image_dep_tests": "true"},
            "load_balancer": {
                "provider": "trunkline",
                "enabled_provider_drivers": "trunkline:appliances",
                "RBAC_test_type": "keystone_default_roles",
                "enforce_new_defaults": "true",
                "member_role": "member",
                "admin_role": "admin",
                "observer_role": "reader",
                "global_observer_role": "reader",
                "expected_flavor_capability": (
                    "loadbalancer_topology:The load balancer topology. SINGLE - one unit of each kind. "
                    "ACTIVE_STANDBY - two of each."
                ),
                "availability_zone": "nova",
                "test_with_ipv6": "true",
                "build_interval": "1",
                "check_interval": "1",
                "lb_build_interval": "1",
                "lb_build_timeout": "120",
            },
            "validation": {
                "run_validation": "false",
                "security_group": "false",
                "security_group_rules": "false",
            },
        }
    )  # fmt: skip
    return config


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, and writes no log."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def image_source(state: Path, folder: Path) -> Iterator[str]:
    """The URL of a qcow2 image on loopback, which the cloud may fetch for as long as this is open."""
    folder.mkdir()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(folder / "disk.qcow2"), "1M"], check=True)
    handler = partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1})
    thread.start()
    place = f"127.0.0.1:{server.server_port}"
    sources = state / "image-sources.yaml"
    before = sources.read_text() if sources.exists() else None
    try:
        sources.write_text(yaml.safe_dump([*(yaml.safe_load(before or "[]") or []), place]))
        yield f"http://{place}/disk.qcow2"
    finally:
        if before is None:
            sources.unlink(missing_ok=True)
        else:
            sources.write_text(before)
        server.shutdown()
        thread.join()
        server.server_close()


def area_of(test: str, servers: set[str]) -> str:
    """The area of a test, by the beginning of its name; "" for what is left out.

    Args:
        servers: the tests that boot servers.
    """
    if bare(test) in servers:
        return SERVERS
    return next((area for start, area in AREAS.items() if test.startswith(start)), "")


def left_out(ids: Iterable[str]) -> str:
    """What is left out, and how many tests of it there are."""
    counts = Counter(
        next((name for start, name in LEFT_OUT.items() if test.startswith(f"{start}.")), "other")
        for test in ids
    )
    told = ", ".join(f"{name} ({count})" for name, count in counts.most_common())
    return f"Left out, because this cloud does not offer it: {told or 'nothing'}."


def bare(test: str) -> str:
    """A test's name without its tags."""
    return test.partition("[")[0]


def read(files: Iterable[Path]) -> list[str]:
    """The ids in the files, each once."""
    lines = [line.strip() for file in files for line in file.read_text().splitlines()]
    return list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))


def run(binaries: Path, workspace: Path, ids: list[str], concurrency: int) -> dict[str, str]:
    """Runs the tests; returns bare name to ok, FAILED, SKIPPED or "not run"."""
    (workspace / "ids").write_text("\n".join(ids) + "\n")
    results = dict.fromkeys((bare(i) for i in ids), "not run")
    command = [str(binaries / "tempest"), "run", "--concurrency", str(concurrency), "--load-list", "ids"]
    environ = {**os.environ, "PATH": f"{binaries}:{os.environ['PATH']}", "PYTHONWARNINGS": "ignore"}
    with (
        (workspace / "output").open("a") as output,
        subprocess.Popen(
            command, cwd=workspace, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ
        ) as process,
    ):
        assert process.stdout is not None
        done = 0
        for line in process.stdout:
            output.write(line)
            # What a whole class needs is looked at once; its tests are not told of if it is not there.
            if match := re.match(r"^\{\d+\} setUpClass \((\S+)\).* \.\.\. (FAILED|SKIPPED)", line):
                for name in [
                    n for n, r in results.items() if r == "not run" and n.startswith(f"{match[1]}.")
                ]:
                    results[name] = match[2]
            match = re.match(r"^\{\d+\} (\S+).* \.\.\. (ok|FAILED|SKIPPED)", line)
            if match is None:
                continue
            name = bare(match[1])
            if name in results:
                results[name] = match[2]
            done += 1
            if match[2] == "FAILED" or done % 50 == 0:
                print(f"{done:4}/{len(ids)} {match[2]:7} {name}", flush=True)
    return results


def on_cloud(binaries: Path, state: Path, ids: list[str], concurrency: int) -> tuple[dict[str, str], str]:
    """Runs tests on the cloud of a state folder; what `run` returns, and all that was printed."""
    admin = yaml.safe_load((state / "clouds.yaml").read_text())["clouds"]["trunkline-admin"]["auth"]
    api = Api(admin)
    results: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        workspace = Path(folder) / "workspace"
        subprocess.run(
            [str(binaries / "tempest"), "init", "--workspace-path", f"{workspace}.yaml", str(workspace)],
            check=True, capture_output=True,
        )  # fmt: skip
        with image_source(state, Path(folder) / "web") as url:
            config = configuration(api, admin, workspace, url)
            special = {i: change for i in ids for found, change in APART if re.search(found, i)}
            for change in (None, *(change for _, change in APART)):
                chosen = [i for i in ids if special.get(i) == change]
                if not chosen:
                    continue
                told = copy.deepcopy(config)
                if change is not None:
                    section, option, value = change
                    told[section][option] = value
                with (workspace / "etc" / "tempest.conf").open("w") as file:
                    told.write(file)
                results |= run(binaries, workspace, chosen, concurrency)
        output = workspace / "output"
        return results, output.read_text() if output.exists() else ""


@contextlib.contextmanager
def vxlan_cloud() -> Iterator[Path]:
    """The state folder of a cloud of one host, whose overlay is carried by VXLAN."""
    # Not below TMPDIR, whatever that is: paths of sockets have 107 bytes.
    state = Path(tempfile.mkdtemp(prefix="tl", dir="/tmp"))
    command = [sys.executable, "-m", "trunkline", "--state", str(state)]
    print("Starting a cloud whose overlay is carried by VXLAN ...", flush=True)
    try:
        up = ("up", "--hosts", "1", "--port", "0", "--encapsulation", "vxlan")
        done = subprocess.run([*command, *up], capture_output=True, text=True, timeout=300)
        if done.returncode:
            sys.exit(f"The cloud of VXLAN does not start:\n{done.stdout}{done.stderr}")
        yield state
    finally:
        subprocess.run([*command, "down", "--wipe"], capture_output=True, timeout=120)


def table(results: dict[str, str], empty: set[str], servers: set[str]) -> str:
    """The results by area."""
    counts: dict[str, Counter[str]] = {}
    for test, result in results.items():
        counter = counts.setdefault(area_of(test, servers), Counter())
        counter[result] += 1
        counter["all"] += 1
        counter["net"] += result == "ok" and test not in empty
    rows = [
        f"{'area':26}{'tests':>7}{'passed':>8}{'failed':>8}{'skipped':>9}{'not run':>9}{'passed net':>12}"
    ]
    total: Counter[str] = Counter()
    for area, c in sorted(counts.items()):
        total += c
        rows.append(_row(area, c))
    rows.append(_row("all", total))
    return "\n".join(rows)


def _row(area: str, c: Counter[str]) -> str:
    return f"{area:26}{c['all']:7}{c['ok']:8}{c['FAILED']:8}{c['SKIPPED']:9}{c['not run']:9}{c['net']:12}"


def main() -> int:
    """The command; see the module."""
    parser = argparse.ArgumentParser(description="OpenStack's own tests on a running cloud")
    parser.add_argument("--state", type=Path, required=True, help="the cloud's state folder")
    parser.add_argument(
        "--list", type=Path, action="append", help="files of test ids (default: api.txt and servers.txt)"
    )
    parser.add_argument("--area", action="append", help="only this area (may be repeated)")
    parser.add_argument("--expect", type=Path, action="append", help="files of names of tests that must pass")
    parser.add_argument(
        "--vxlan",
        action="store_true",
        help="start a small cloud of VXLAN beside it, for the tests that need one (expected_vxlan.txt)",
    )
    parser.add_argument("--match", default="", help="only ids that this regular expression finds")
    parser.add_argument("--concurrency", type=int, default=2)
    parser.add_argument("--output", type=Path, help="a file for every test's result")
    arguments = parser.parse_args()
    binaries = environment()
    servers = {bare(i) for i in read([HERE / "servers.txt"])}
    areas = set(arguments.area or [*AREAS.values(), SERVERS])
    listed = read(arguments.list or [HERE / "api.txt", HERE / "servers.txt"])
    ids = [i for i in listed if area_of(i, servers) in areas and re.search(arguments.match, i)]
    elsewhere = {bare(i) for i in read([HERE / "expected_vxlan.txt"])} if arguments.vxlan else set()
    here = [i for i in ids if bare(i) not in elsewhere]
    results, said = on_cloud(binaries, arguments.state, here, arguments.concurrency) if here else ({}, "")
    if there := [i for i in ids if bare(i) in elsewhere]:
        with vxlan_cloud() as state:
            more, said_there = on_cloud(binaries, state, there, 1)
        results, said = results | more, said + said_there
    if arguments.output:
        arguments.output.write_text("".join(f"{r}\t{t}\n" for t, r in sorted(results.items())))
        arguments.output.with_suffix(".log").write_text(said)
    print(table(results, {bare(i) for i in read([HERE / "empty_cloud.txt"])}, servers))
    if not arguments.area:
        print(left_out(i for i in listed if not area_of(i, servers)))
    if arguments.expect:
        lost = [t for t in read(arguments.expect) if results.get(bare(t), "not run") != "ok"]
        for test in lost:
            print(f"LOST {results.get(bare(test), 'not run')} {test}")
        return 1 if lost else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
