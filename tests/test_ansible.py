"""The networking modules of Ansible's collection openstack.cloud, on a real cloud (clients/network.yml)."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from ansible_lab import environment
from cloud import Cloud

HERE = Path(__file__).parent / "clients"

#: The collection's modules of the Network API; the rest are of other services.
MODULES = (
    r"network|networks_info|subnet|subnets_info|subnet_pool|address_scope|port|port_info|router|routers_info|"
    r"security_group(_rule)?(_info)?|floating_ip(_info)?|neutron_rbac_polic.*|trunk|quota"
)


@pytest.mark.machine
@pytest.mark.timeout(600)
def test_ansible_drives_the_network_api(cloud: Cloud, tmp_path: Path) -> None:
    home = environment()
    admin = yaml.safe_load(cloud.state.clouds_yaml.read_text())["clouds"]["trunkline-admin"]
    with cloud.project("ansible") as project:
        mine = {**admin, "auth": dict(project.config.config["auth"])}
        (tmp_path / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"admin": admin, "me": mine}}))
        given = {
            "offered": [each.alias for each in project.network.extensions()],
            "project": mine["auth"]["project_name"],
            "other": cloud.admin.current_project_id,
            "ansible_python_interpreter": str(home / "bin" / "python"),
        }
        done = subprocess.run(
            [str(home / "bin" / "ansible-playbook"), "-i", "localhost,", "-c", "local",
             "-e", json.dumps(given), str(HERE / "network.yml")],
            env={
                "PATH": f"{home / 'bin'}:/usr/bin:/bin",
                "HOME": str(tmp_path),
                "LC_ALL": "C.UTF-8",
                "ANSIBLE_COLLECTIONS_PATH": str(home / "collections"),
                "ANSIBLE_PIPELINING": "1",
                "OS_CLIENT_CONFIG_FILE": str(tmp_path / "clouds.yaml"),
            },
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=580,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-4000:]


def test_every_networking_module_is_in_the_playbook() -> None:
    folder = (
        environment() / "collections" / "ansible_collections" / "openstack" / "cloud" / "plugins" / "modules"
    )
    modules = {file.stem for file in folder.glob("*.py")}
    driven = set(re.findall(r"openstack\.cloud\.(\w+):", (HERE / "network.yml").read_text()))
    assert {each for each in modules if re.fullmatch(MODULES, each)} - driven == set()
