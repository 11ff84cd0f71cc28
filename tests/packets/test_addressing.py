"""How hosts get their addresses: DHCP, router advertisements, DHCPv6, seen by ordinary clients.

The clients are busybox's udhcpc, the kernel, rdisc6 and ISC's dhclient.

| claim | and in reverse |
| --- | --- |
| DHCP tells address, mask, router, name servers, MTU, lease and routes | `enable_dhcp` false: no answer |
| a subnet without a gateway tells none, one with routes tells them beside the default | |
| `extra_dhcp_opts` of a port go before what its subnet tells | changed, removed |
| who may send nothing, and be sent nothing, is told its address and renews it | ... and nothing else |
| SLAAC: the address is the port's, with a router, a packet size and name servers | no router: no address |
| DHCPv6 stateful: the address is the port's, no other is formed | no router: nobody says so |
| DHCPv6 stateless: the address is formed, name servers are told | SLAAC alone: nobody answers |
"""

from __future__ import annotations

import pytest
from flows import SOON, Ping, must_pass, must_stop
from probes import Probe, wait_for
from tenants import Net, Tenant

pytestmark = pytest.mark.machine


def plugged(tenant: Tenant, net: Net, *hosts: str, **fields: object) -> list[Probe]:
    """Probes that are wired, and know nothing yet."""
    probes = [tenant.probe(net, host, **fields) for host in hosts or ("h1",)]
    tenant.ready(*probes, configure=False)
    return probes


def routes(told: dict[str, str]) -> set[tuple[str, str]]:
    """The routes of option 121 (RFC 3442), as pairs of prefix and next hop."""
    words = told.get("staticroutes", "").split()
    return set(zip(words[::2], words[1::2], strict=True))


def test_dhcp_tells_all_that_a_host_needs(tenant: Tenant) -> None:
    net = tenant.network(mtu=1300)
    servers = ["192.0.2.53", "192.0.2.54"]
    host_routes = [{"destination": "192.0.2.128/25", "nexthop": "10.3.0.9"}]
    tenant.subnet(net, "10.3.0.0/23", dns_nameservers=servers, host_routes=host_routes)
    a, b = plugged(tenant, net, "h1", "h2")
    told = a.dhcp()
    assert (told["ip"], told["mask"], told["subnet"]) == (a.v4, "23", "255.255.254.0")
    assert (told["router"], told["mtu"], told["lease"]) == ("10.3.0.1", "1300", "43200")
    assert told["dns"].split() == servers
    found = routes(told)
    assert {("0.0.0.0/0", "10.3.0.1"), ("192.0.2.128/25", "10.3.0.9")} < found
    assert {prefix for prefix, _ in found} == {"0.0.0.0/0", "192.0.2.128/25", "169.254.169.254/32"}
    # And what it tells is true.
    other = b.dhcp()
    for probe, words in ((a, told), (b, other)):
        probe.ip(f"address add {words['ip']}/{words['mask']} dev eth0")
    must_pass(Ping(a, other["ip"], size=1300))


def test_a_subnet_without_a_gateway_tells_none(tenant: Tenant) -> None:
    net = tenant.network()
    tenant.subnet(net, "10.3.0.0/24", gateway_ip=None)
    told = plugged(tenant, net)[0].dhcp()
    assert told["ip"]
    assert "router" not in told
    assert "0.0.0.0/0" not in {prefix for prefix, _ in routes(told)}


def test_without_dhcp_nobody_answers(tenant: Tenant) -> None:
    net = tenant.network()
    subnet = tenant.subnet(net, "10.3.0.0/24", enable_dhcp=False)
    probe = plugged(tenant, net)[0]
    assert probe.dhcp(seconds=2) == {}
    tenant.api.update_subnet(subnet, enable_dhcp=True)
    assert probe.dhcp()["ip"] == probe.v4
    tenant.api.update_subnet(subnet, enable_dhcp=False)
    wait_for(lambda: probe.dhcp(seconds=1) == {}, SOON, "nobody answers any more")


def test_options_of_a_port_go_before_those_of_its_subnet(tenant: Tenant) -> None:
    net = tenant.network("10.3.0.0/24")
    wanted = {
        "bootfile-name": "boot/loader.efi",
        "tftp-server": "192.0.2.69",
        "tftp-server-address": "192.0.2.70",
        "domain-name": "lab.example",
        "dns-server": "192.0.2.55",
        "mtu": "1400",
        "ntp-server": "192.0.2.123",
    }
    options = [{"opt_name": name, "opt_value": value} for name, value in wanted.items()]
    with_options, without = tenant.probe(net, extra_dhcp_opts=options), tenant.probe(net)
    tenant.ready(with_options, without, configure=False)
    told = with_options.dhcp()
    assert told["ip"] == with_options.v4
    assert (told["bootfile"], told["tftp"]) == ("boot/loader.efi", "192.0.2.69")
    assert (told["domain"], told["dns"], told["mtu"]) == ("lab.example", "192.0.2.55", "1400")
    assert (told["ntpsrv"], told["opt150"]) == ("192.0.2.123", "c0000246")
    plain = without.dhcp()
    assert not {"bootfile", "tftp", "ntpsrv", "opt150"} & plain.keys()
    assert plain["domain"] == "cloud.internal"
    assert plain["mtu"] == str(net.mtu)
    changes = [
        {"opt_name": "domain-name", "opt_value": "new.example"},
        {"opt_name": "mtu", "opt_value": None},
    ]
    tenant.change(with_options, extra_dhcp_opts=changes)
    wait_for(lambda: with_options.dhcp().get("domain") == "new.example", SOON, "the new name is told")
    told = with_options.dhcp()
    assert (told["mtu"], told["bootfile"]) == (str(net.mtu), "boot/loader.efi")


def test_who_may_send_nothing_else_is_told_its_address_and_renews_it(tenant: Tenant) -> None:
    net = tenant.network("10.3.0.0/24")
    silent = plugged(tenant, net, security_groups=[])[0]
    other = tenant.probes(net, "h2")[0]
    assert silent.dhcp()["ip"] == silent.v4
    silent.configure()
    assert silent.renews()
    must_stop(Ping(silent, other.v4), Ping(other, silent.v4), control=Ping(other, net_service(tenant, net)))


def net_service(tenant: Tenant, net: Net) -> str:
    """The address of the network's own service for its hosts, which anyone there reaches."""
    ports = tenant.admin.ports(network_id=net.id, device_owner="network:distributed")
    return str(next(iter(ports)).fixed_ips[0]["ip_address"])


def test_slaac_forms_the_address_of_the_port(tenant: Tenant) -> None:
    net = tenant.network(mtu=1400)
    modes = {"ipv6_ra_mode": "slaac", "ipv6_address_mode": "slaac"}
    subnet = tenant.subnet(net, "fd00:3::/64", dns_nameservers=["2001:db8::53"], **modes)
    tenant.router(net)
    a, b = plugged(tenant, net, "h1", "h2")
    assert (a.autoconfigured(), b.autoconfigured()) == (a.v6, b.v6)
    must_pass(Ping(a, b.v6, size=1400))
    said = a.advertised()
    assert " 1400 bytes" in said
    assert "2001:db8::53" in said
    assert f"Prefix                   : {subnet.cidr}" in said
    assert a.default_router6() == "eth0"
    # A host that only learns who has which address is reached from there, too.
    must_pass(Ping(a, "fd00:3::1"))


def test_without_a_router_no_address_is_formed(tenant: Tenant) -> None:
    net = tenant.network("fd00:3::/64", ipv6="slaac")
    probe = plugged(tenant, net)[0]
    assert probe.solicit() == ""
    router = tenant.router(net)
    wait_for(lambda: "fd00:3::/64" in probe.solicit(), SOON, "a router is there")
    assert probe.autoconfigured() == probe.v6
    tenant.api.remove_interface_from_router(router, subnet_id=net.subnets[0].id)
    wait_for(lambda: probe.solicit() == "", SOON, "the router is gone")


def test_dhcpv6_tells_the_address_of_the_port(tenant: Tenant) -> None:
    net = tenant.network()
    modes = {"ipv6_ra_mode": "dhcpv6-stateful", "ipv6_address_mode": "dhcpv6-stateful"}
    tenant.subnet(net, "fd00:3::/64", dns_nameservers=["2001:db8::53", "2001:db8::54"], **modes)
    tenant.router(net)
    a, b = plugged(tenant, net, "h1", "h2")
    said = a.advertised()
    assert flag(said, "Stateful address conf.") == "Yes"
    assert flag(said, "Autonomous address conf.") == "No"
    told = a.dhcp6()
    assert told["new_ip6_address"] == a.v6
    assert told["new_dhcp6_name_servers"].split() == ["2001:db8::53", "2001:db8::54"]
    b.ip(f"address add {b.dhcp6()['new_ip6_address']}/64 dev eth0 nodad")
    a.ip(f"address add {told['new_ip6_address']}/64 dev eth0 nodad")
    must_pass(Ping(a, b.v6), Ping(b, a.v6))
    formed = [x for x in a.interface()["addr_info"] if x["scope"] == "global" and x["local"] != a.v6]
    assert formed == []


def test_dhcpv6_without_addresses_tells_name_servers(tenant: Tenant) -> None:
    net = tenant.network()
    modes = {"ipv6_ra_mode": "dhcpv6-stateless", "ipv6_address_mode": "dhcpv6-stateless"}
    tenant.subnet(net, "fd00:3::/64", dns_nameservers=["2001:db8::53"], **modes)
    tenant.router(net)
    probe = plugged(tenant, net)[0]
    assert probe.autoconfigured() == probe.v6
    said = probe.advertised()
    assert flag(said, "Stateful address conf.") == "No"
    assert flag(said, "Stateful other conf.") == "Yes"
    assert probe.dhcp6(stateless=True)["new_dhcp6_name_servers"] == "2001:db8::53"


def test_with_slaac_alone_no_dhcpv6_answers(tenant: Tenant) -> None:
    net = tenant.network("fd00:3::/64", ipv6="slaac")
    tenant.router(net)
    probe = plugged(tenant, net)[0]
    assert flag(probe.advertised(), "Stateful other conf.") == "No"
    assert probe.dhcp6(seconds=3, stateless=True) == {}


def flag(said: str, name: str) -> str:
    """The value of a flag of a router advertisement, in words of rdisc6; "" where it is not there."""
    for line in said.splitlines():
        if line.strip().startswith(name):
            return line.rpartition(":")[2].strip()
    return ""
