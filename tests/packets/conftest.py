"""Fixtures of the packet contract."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Generator, Iterator

import pytest
from cloud import Cloud
from probes import Space
from tenants import Tenant, tenant_of


@pytest.fixture(scope="module")
def tenant(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    """A project of the module's own."""
    with tenant_of(cloud, tmp_path_factory.mktemp("probes")) as made:
        yield made


@pytest.fixture(scope="module")
def stranger(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenant]:
    """Another project."""
    with tenant_of(cloud, tmp_path_factory.mktemp("strangers"), "stranger") as made:
        yield made


@pytest.fixture(autouse=True)
def tidy(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a case makes beside the module's scene goes when the case ends."""
    tenants = [request.getfixturevalue(n) for n in ("tenant", "stranger") if n in request.fixturenames]
    with contextlib.ExitStack() as stack:
        for made in tenants:
            stack.enter_context(made.scope())
        yield


@pytest.fixture(scope="session")
def internet(cloud: Cloud) -> Space:
    """The host behind the outside router: 198.51.100.10, 2001:db8:198::10."""
    return Space(cloud.namespace("i"), name="the host outside")


@pytest.fixture(scope="session")
def outside_router(cloud: Cloud) -> Space:
    """The outside router: 203.0.113.1, 2001:db8:113::1 on the external network."""
    return Space(cloud.namespace("x"), name="the router outside")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Function, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With a case that fails goes what every host's switch did with packets just then."""
    report = yield
    cloud = item.funcargs.get("cloud")
    if report.when == "call" and report.failed and isinstance(cloud, Cloud):
        for host in cloud.hosts:
            command = ["ovs-appctl", "--timeout=5", "-t", str(cloud.state.host(host) / "ovs-vswitchd.ctl")]
            command += ["dpctl/dump-flows", "-m", "--names"]
            said = subprocess.run(command, capture_output=True, text=True, check=False)
            report.sections.append((f"flows of {host}", said.stdout[:20_000] + said.stderr))
    return report
