"""The clients that people have, on the Identity API over a real socket; and what they are told of it."""

from __future__ import annotations

import re
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from identity_lab import SECRET, IdentityLab

from trunkline.api import identity
from trunkline.api.identity import SeedOptions, seed
from trunkline.api.openapi import document
from trunkline.api.policy import DEFAULTS, Rules
from trunkline.resources.schema import specs

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import openstack


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[tuple[IdentityLab, str]]:
    lab = IdentityLab(tmp_path)
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    hashed = lab.identity.passwords.hash_now(SECRET)
    options = SeedOptions(base_url=url, admin_password_hash=hashed, demo_password_hash=hashed)
    lab.store.write_sync(lambda tx: seed(tx, options))
    server = uvicorn.Server(uvicorn.Config(lab.app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    until = time.monotonic() + 30
    while not server.started and time.monotonic() < until:
        time.sleep(0.01)
    yield lab, url
    server.should_exit = True
    thread.join()
    listener.close()
    lab.close()


def connect(url: str, user: str, **scope: Any) -> Any:
    return openstack.connect(
        load_envvars=False,
        load_yaml_config=False,
        auth={
            "auth_url": f"{url}/identity",
            "username": user,
            "password": SECRET,
            "user_domain_name": "Default",
            **scope,
        },
        region_name="RegionOne",
    )


PROJECT = {"project_name": "admin", "project_domain_name": "Default"}


@pytest.mark.filterwarnings("ignore")
def test_openstacksdk_manages_people(cloud: tuple[IdentityLab, str]) -> None:
    _, url = cloud
    admin = connect(url, "admin", **PROJECT)
    project = admin.identity.create_project(name="p", description="d", tags=["t"])
    user = admin.identity.create_user(name="u", password=SECRET, default_project_id=project.id)
    group = admin.identity.create_group(name="g")
    admin.identity.add_user_to_group(user, group)
    role = admin.identity.find_role("member")
    admin.identity.assign_project_role_to_group(project, group, role)
    mine = connect(url, "u", project_name="p", project_domain_name="Default")
    assert mine.current_project_id == project.id
    assert [p.name for p in mine.identity.user_projects(user)] == ["p"]
    assert admin.identity.update_user(user, email="u@example.org").email == "u@example.org"
    assert admin.identity.find_user("nobody") is None
    names = {u.name for u in admin.identity.users()}
    assert names == {"admin", "demo", "u"}
    endpoints = {s.type for s in admin.identity.services()}
    assert endpoints == {"identity", "network", "compute", "image"}
    assert admin.session.get_endpoint(service_type="network", interface="public") == f"{url}/network"
    lines = list(admin.identity.role_assignments(user_id=user.id, effective=True))
    assert {line.role["id"] for line in lines} >= {role.id}
    credential = mine.identity.create_application_credential(user=user.id, name="c")
    program = openstack.connect(
        load_envvars=False,
        load_yaml_config=False,
        auth_type="v3applicationcredential",
        auth={
            "auth_url": f"{url}/identity",
            "application_credential_id": credential.id,
            "application_credential_secret": credential.secret,
        },
    )
    assert program.current_project_id == project.id
    admin.identity.delete_user(user)
    with pytest.raises(openstack.exceptions.SDKException):
        connect(url, "u", project_name="p", project_domain_name="Default").authorize()


@pytest.mark.filterwarnings("ignore")
def test_openstacksdk_works_with_the_system_scope(cloud: tuple[IdentityLab, str]) -> None:
    _, url = cloud
    system = connect(url, "admin", system_scope="all")
    assert {d.name for d in system.identity.domains()} == {"Default"}
    assert system.identity.find_domain("Default").id == "default"


def test_every_rule_that_the_code_asks_for_is_there() -> None:
    rules = Rules.load([DEFAULTS / "base.yaml", DEFAULTS / "identity.yaml"])
    folder = Path(identity.__file__).parent
    text = "".join(path.read_text() for path in folder.glob("*.py"))
    asked = set(re.findall(r"\"(identity:\w+)\"", text))
    verbs = "add|check|create|delete|ec2|get|list|remove|revoke|update|validate"
    asked |= {f"identity:{name}" for name in re.findall(rf"request, \"((?:{verbs})_\w+)\"", text)}
    for kind in ("domain", "project", "user", "group", "role", "region", "service", "endpoint", "credential"):
        asked |= {f"identity:{verb}_{kind}" for verb in ("create", "get", "update", "delete")}
        asked.add(f"identity:list_{specs()[kind].plural}")
    for verb in ("check", "create", "revoke"):
        asked |= {
            f"identity:{verb}_grant",
            *(f"identity:{verb}_system_grant_for_{a}" for a in ("user", "group")),
        }
    assert len(asked) > 60
    assert {name for name in asked if name not in rules} == set()


def test_the_document_of_the_api_names_every_path_and_body(tmp_path: Path) -> None:
    lab = IdentityLab(tmp_path)
    try:
        made = document(lab.identity.service, "1")
    finally:
        lab.close()
    paths = made["paths"]
    assert "/v3/users/{id}" in paths
    silent = [
        f"{method} {path}"
        for path, operations in paths.items()
        for method, operation in operations.items()
        if (method in ("post", "patch") or (path.endswith("/tags") and method == "put"))
        and "requestBody" not in operation
    ]
    assert silent == []
