"""What a control process finds in the store of an earlier one: it is kept, and repaired where it must be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from api_lab import ApiLab

from trunkline.control import seed
from trunkline.devices.state import Cloud
from trunkline.resources.network import Network, RbacPolicy
from trunkline.store import Tx

CLOUD = Cloud(tag="0000", api_port=9696)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[ApiLab]:
    lab = ApiLab(tmp_path / "s")
    yield lab
    lab.close()


def start_again(lab: ApiLab) -> None:
    lab.run(seed.run(lab.store, lab.api, lab.folder, CLOUD))


def from_before_there_were_policies(lab: ApiLab) -> None:
    """The store as a version left it that knew flags alone."""

    def forget(tx: Tx) -> None:
        for policy in tx.select(RbacPolicy):
            tx.delete(RbacPolicy, policy.id)
        assert tx.release("cloud", "seed", "sharing-policies") == 1

    lab.store.write_sync(forget)


def seen(lab: ApiLab, by: str = "demo") -> set[str]:
    """The names of the networks that a user sees."""
    return {network["name"] for network in lab.ok("GET", "/network/v2.0/networks", by=by)["networks"]}


def test_flags_of_an_old_store_become_policies(lab: ApiLab) -> None:
    for flag in ("shared", "router:external"):
        lab.ok("POST", "/network/v2.0/networks", {"network": {"name": flag, flag: True}})
    lab.ok("POST", "/network/v2.0/networks", {"network": {"name": "own"}})
    with lab.store.read() as reader:
        networks = reader.select(Network)
    from_before_there_were_policies(lab)
    assert seen(lab) == set()
    start_again(lab)
    assert seen(lab) == {"public", "shared", "router:external"}
    with lab.store.read() as reader:
        assert reader.select(Network) == networks


def test_what_an_operator_takes_back_stays_so(lab: ApiLab) -> None:
    from_before_there_were_policies(lab)
    start_again(lab)
    (policy,) = lab.ok("GET", "/network/v2.0/rbac-policies")["rbac_policies"]
    assert (policy["action"], policy["target_tenant"]) == ("access_as_external", "*")
    lab.ok("DELETE", f"/network/v2.0/rbac-policies/{policy['id']}")
    start_again(lab)
    assert seen(lab) == set()
