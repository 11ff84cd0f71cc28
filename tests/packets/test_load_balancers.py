"""Load balancers, ordered by the Octavia API: what comes to the VIP is spread over a tenant's servers.

| claim | and in reverse |
| --- | --- |
| it is ACTIVE in seconds, and says so of all that it is made of | |
| connections are spread over the members, on the VIP's network and on another | |
| a member that is taken out gets no new connection, and keeps those that it has | |
| so does one of weight 0, which is draining | |
| one that does not answer is asked for nothing, and shown | once it answers, it is asked again |
| a floating IP leads to the VIP | |
| whom the listener does not allow gets nothing | who is allowed does |
| policies of layer 7 lead requests to pools, and reject them | |
| a balancer that is disabled answers nobody | enabled, it does again |
| a deleted one leaves no port and no appliance | |
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from balanced import PATIENCE, WEB, Answering, Balanced, Web, got
from probes import Space, wait_for
from tenants import Tenant

pytestmark = pytest.mark.machine


@pytest.fixture(scope="module")
def balanced(tenant: Tenant) -> Iterator[Balanced]:
    """For all cases here, in order."""
    with contextlib.closing(Balanced(tenant)) as made:
        made.order()
        yield made


def test_it_is_active_with_all_of_it(balanced: Balanced) -> None:
    tree = balanced.tree()
    (listener,) = tree["listeners"]
    (pool,) = listener["pools"]
    for each in (tree, listener, pool, *pool["members"]):
        assert each["provisioning_status"] == "ACTIVE"
    assert {each["operating_status"] for each in pool["members"]} == {"NO_MONITOR"}
    wait_for(lambda: balanced.shown()["operating_status"] == "ONLINE", PATIENCE, "ONLINE")


def test_connections_are_spread_over_the_members(balanced: Balanced) -> None:
    balanced.must_be({"one", "two"})
    (appliance,) = balanced.appliances()
    one, two = balanced.servers
    assert one.seen_from in appliance["outside_addresses"]
    assert [two.seen_from] == appliance["network_addresses"][0], "it is on that network itself"


def test_a_member_that_is_taken_out_keeps_what_it_has(balanced: Balanced) -> None:
    talk = balanced.talk_to("two")
    path = f"pools/{balanced.pool}/members"
    balanced.ask("DELETE", f"{path}/{balanced.member('two')}")
    balanced.settled()
    balanced.must_be({"one"})
    assert talk.goes_on()
    talk.close()
    balanced.ask("POST", path, {"member": balanced.described("two")})
    balanced.settled()
    balanced.must_be({"one", "two"})


def test_a_member_of_weight_0_drains(balanced: Balanced) -> None:
    talk = balanced.talk_to("one")
    path = f"pools/{balanced.pool}/members/{balanced.member('one')}"
    with balanced.changed(path, "member", {"weight": 1}, weight=0):
        balanced.must_be({"two"})
        assert talk.goes_on()
        assert balanced.ask("GET", path)["member"]["operating_status"] == "DRAINING"
    talk.close()
    balanced.must_be({"one", "two"})


def test_a_member_that_does_not_answer_is_asked_for_nothing(balanced: Balanced) -> None:
    checks = {"type": "TCP", "delay": 1, "timeout": 1, "max_retries": 1, "max_retries_down": 1}
    made = balanced.ask("POST", "healthmonitors", {"healthmonitor": {"pool_id": balanced.pool, **checks}})
    balanced.settled()
    balanced.must_show("ONLINE", "ONLINE")
    balanced.servers[1].close()
    balanced.must_show("ERROR", "DEGRADED")
    balanced.must_be({"one"})
    balanced.servers[1] = Answering(balanced.two, "two")
    balanced.must_show("ONLINE", "ONLINE")
    balanced.must_be({"one", "two"})
    balanced.ask("DELETE", f"healthmonitors/{made['healthmonitor']['id']}")
    balanced.settled()
    balanced.must_show("NO_MONITOR", "ONLINE")


def test_a_floating_ip_leads_to_the_vip(balanced: Balanced, internet: Space) -> None:
    floating = balanced.tenant.floating(port_id=balanced.shown()["vip_port_id"])
    balanced.must_be({"one", "two"}, internet, floating.floating_ip_address)


def test_whom_the_listener_does_not_allow_gets_nothing(balanced: Balanced) -> None:
    path = f"listeners/{balanced.listener}"
    with balanced.changed(path, "listener", {"allowed_cidrs": []}, allowed_cidrs=["192.0.2.0/24"]):
        balanced.must_be({""})
    with balanced.changed(
        path, "listener", {"allowed_cidrs": []}, allowed_cidrs=[f"{balanced.client.v4}/32"]
    ):
        balanced.must_be({"one", "two"})


def test_policies_of_layer_7_lead_requests(balanced: Balanced) -> None:
    webs = [Web(balanced.one, "one"), Web(balanced.two, "two")]
    pools = []
    for name in ("one", "two"):
        member = {**balanced.described(name), "protocol_port": WEB}
        pools.append({"name": name, "protocol": "HTTP", "lb_algorithm": "ROUND_ROBIN", "members": [member]})
    rules = {
        "/b": {"action": "REDIRECT_TO_POOL", "redirect_pool": pools[1]},
        "/no": {"action": "REJECT"},
    }
    policies = [
        {**policy, "rules": [{"type": "PATH", "compare_type": "STARTS_WITH", "value": path}]}
        for path, policy in rules.items()
    ]
    listener = {"protocol": "HTTP", "protocol_port": WEB, "default_pool": pools[0], "l7policies": policies}
    made = balanced.ask("POST", "listeners", {"listener": {"loadbalancer_id": balanced.id, **listener}})
    balanced.settled()
    answers = {"/": "200 one", "/b/c": "200 two"}

    def so() -> bool:
        found = {path: got(balanced.client, balanced.vip, path) for path in answers}
        return found == answers and got(balanced.client, balanced.vip, "/no").startswith("403")

    try:
        wait_for(so, PATIENCE, "requests go where policies say")
    finally:
        balanced.ask("DELETE", f"listeners/{made['listener']['id']}")
        balanced.settled()
        for web in webs:
            web.close()


def test_one_that_is_disabled_answers_nobody(balanced: Balanced) -> None:
    path = f"loadbalancers/{balanced.id}"
    with balanced.changed(path, "loadbalancer", {"admin_state_up": True}, admin_state_up=False):
        balanced.must_be({""})
        assert balanced.shown()["operating_status"] == "OFFLINE"
    balanced.must_be({"one", "two"})


def test_a_deleted_one_leaves_nothing(balanced: Balanced) -> None:
    vip = balanced.shown()["vip_port_id"]
    assert [appliance["name"] for appliance in balanced.appliances()] == ["shop"]
    balanced.ask("DELETE", f"loadbalancers/{balanced.id}?cascade=true")
    assert balanced.appliances() == []
    left = balanced.tenant.admin.ports(network_id=balanced.net.id)
    assert not [p for p in left if p.id == vip or p.device_owner.startswith("network:appliance")]
