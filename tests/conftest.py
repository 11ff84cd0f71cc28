"""Fixtures for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cloud import Cloud, running_cloud
from hypothesis import HealthCheck, settings

# How fast examples are made and tried is the machine's affair, and no property of what is tried.
settings.register_profile("trunkline", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("trunkline")


def pytest_configure(config: pytest.Config) -> None:
    """openstacksdk warns of itself at every connection, whoever uses it and however."""
    for kind in ("RemovedInSDK50Warning", "RemovedInSDK60Warning"):
        config.addinivalue_line("filterwarnings", f"ignore::openstack.warnings.{kind}")


@pytest.fixture(scope="session")
def cloud() -> Iterator[Cloud]:
    """A cloud with three hosts, started before the first test that asks for it. It needs root."""
    with running_cloud() as made:
        yield made
