"""A network shared with one project: that project's ports talk on it, and nobody else's come to be.

| claim | and in reverse |
| --- | --- |
| the project that a network is shared with has ports on it that talk | another project has none |
"""

from __future__ import annotations

import pytest
from flows import Ping, Tcp, must_pass
from openstack.exceptions import ForbiddenException, NotFoundException
from tenants import Tenant

pytestmark = pytest.mark.machine


def test_a_shared_network_carries_the_ports_of_the_project_it_is_shared_with(
    tenant: Tenant, stranger: Tenant
) -> None:
    net = tenant.network("10.0.0.0/24")
    (own,) = tenant.probes(net, "h1")
    with pytest.raises(NotFoundException):
        stranger.api.create_port(network_id=net.id)
    policy = tenant.api.create_rbac_policy(
        object_type="network",
        object_id=net.id,
        action="access_as_shared",
        target_project_id=stranger.project_id,
    )
    # Made by the project itself, and bound, as its server would be, by the administrator.
    port = stranger.api.create_port(network_id=net.id, security_groups=[stranger.anything.id])
    stranger.undo(stranger.api.delete_port, port)
    guest = stranger.adopt(net, port, "h2")
    stranger.ready(guest)
    must_pass(Ping(own, guest.v4), Ping(guest, own.v4), Tcp(guest, own, own.v4, 80))
    with pytest.raises(ForbiddenException):
        stranger.api.create_port(network_id=net.id, is_port_security_enabled=False)
    stranger.api.delete_port(port)
    tenant.api.delete_rbac_policy(policy)
    with pytest.raises(NotFoundException):
        stranger.api.create_port(network_id=net.id)
