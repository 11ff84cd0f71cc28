"""What a policy is for HAProxy, what only a proxy does, and certificates whose keys nobody sees again.

| claim | and in reverse |
| --- | --- |
| a configuration is as it is written here, and HAProxy takes it | a policy for the kernel alone has none |
| whatever a text has in it, it is taken for what it is | |
| the same member has the same cookie wherever it stands | |
| what cannot be done is refused, with its field and a remedy | |
| a certificate fits its key, and has not expired | one that is stored already may have |
| a key is hidden, and what is hidden is the stored one | without a stored one it is refused |
| a difference says that a certificate is another one, and not which | |
| statistics are the listeners' and the members' | |
"""

from __future__ import annotations

import copy
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from web_members import certificate

from trunkline.errors import BadField
from trunkline.resources.appliance_policy import difference, parse
from trunkline.resources.appliance_policy.certificates import HIDDEN, expired, redacted, restored
from trunkline.resources.reports import ListenerCount
from trunkline.units.proxy import read_statistics
from trunkline.units.proxy_config import Rendered, Settings, rendered

SITE = certificate("site.example.org")
MEMBERS = [{"address": "10.0.0.5", "port": 80, "weight": 2}, {"address": "10.0.0.6", "port": 81}]
WEB: dict[str, Any] = {
    "name": "web", "address": "192.0.2.2", "port": 443, "protocol": "https", "certificates": ["my site"],
    "members": MEMBERS, "algorithm": "source", "affinity": {"kind": "cookie"}, "tls_to_members": True,
    "insert_headers": {"X-Forwarded-For": True}, "timeouts": {"client": 1.5, "inspect": 3},
    "pools": {"api": {"members": [dict(MEMBERS[1])], "send_proxy": 2}},
    "routes": [
        {"name": "no", "reject": True,
         "when": [{"kind": "cookie", "key": "a", "value": "b", "invert": True}]},
        {"name": "api", "to": "api", "when": [{"kind": "host", "compare": "ends", "value": ".Example.org"}]},
        {"name": "old", "redirect": "/50%", "when": [{"kind": "file_type", "value": ".php"}]},
    ],
}  # fmt: skip
DOCUMENT = {
    "balancer": {
        "certificates": {"my site": SITE},
        "listeners": [
            WEB,
            {"name": "tcp", "address": "fd00:b::1", "port": 25, "proxied": True},
            {"name": "kernel", "address": "192.0.2.2", "port": 80, "members": MEMBERS},
        ],
    }
}
GOLDEN = """\
global
  maxconn 2730
  nbthread 1
  stats socket unix@stats mode 600 level admin expose-fd listeners
  ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
  ssl-server-verify none
  tune.ssl.default-dh-param 2048

defaults
  maxconn 2730
  option redispatch
  retries 2
  timeout http-keep-alive 60s

frontend f0
  bind 192.0.2.2:443 ssl crt-list list-0 alpn h2,http/1.1
  mode http
  timeout client 1500ms
  option idle-close-on-response
  timeout http-request 3000ms
  option forwardfor
  http-request set-var(txn.route) int(0) if !{ var(txn.route) -m found } !{ req.cook(a) -m str -- 'b' }
  http-request set-var(txn.route) int(1) if !{ var(txn.route) -m found } \
{ req.hdr(host),host_only,lower -m end -- '.example.org' }
  http-request set-var(txn.route) int(2) if !{ var(txn.route) -m found } { path,field(-1,.) -m str -- 'php' }
  http-request deny deny_status 403 if { var(txn.route) -m int 0 }
  http-request redirect location '/50%%' code 302 if { var(txn.route) -m int 2 }
  default_backend b0.0
  use_backend b0.1 if { var(txn.route) -m int 1 }

backend b0.0
  mode http
  balance source
  hash-type consistent sdbm avalanche
  timeout connect 5000ms
  timeout server 50000ms
  cookie TRUNKLINE insert indirect nocache httponly
  server s0 10.0.0.5:80 weight 2 cookie a3d85b396291 ssl verify none
  server s1 10.0.0.6:81 weight 1 cookie 2b35fd267659 ssl verify none

backend b0.1
  mode http
  balance roundrobin
  timeout connect 5000ms
  timeout server 50000ms
  server s0 10.0.0.6:81 weight 1 send-proxy-v2

frontend f1
  bind [fd00:b::1]:25
  mode tcp
  timeout client 50000ms
  default_backend b1.0

backend b1.0
  mode tcp
  balance roundrobin
  timeout connect 5000ms
  timeout server 50000ms
"""


def config(document: dict[str, Any]) -> Rendered:
    found = rendered(parse(document), Settings())
    assert found is not None
    return found


def must_be_taken(made: Rendered, folder: Path) -> None:
    for name, text in {"c": made.text, **made.files}.items():
        (folder / name).write_text(text)
    done = subprocess.run(
        ["haproxy", "-c", "-f", "c"], cwd=folder, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_a_configuration_is_as_it_is_written_here(tmp_path: Path) -> None:
    made = config(DOCUMENT)
    assert made.text == GOLDEN
    assert made.files["list-0"] == "c0.pem\n"
    assert made.listeners == {"f0": "web", "f1": "tcp"}
    assert made.members["b0.1", "s0"] == "web/api/10.0.0.6:81"
    must_be_taken(made, tmp_path)
    assert (
        rendered(parse({"balancer": {"listeners": DOCUMENT["balancer"]["listeners"][2:]}}), Settings())
        is None
    )  # type: ignore[index]


@pytest.mark.parametrize("algorithm", ["round_robin", "random", "source", "source_port"])
def test_haproxy_takes_all_algorithms(tmp_path: Path, algorithm: str) -> None:
    listeners = [{"name": f"{p}", "address": "192.0.2.2", "port": n, "protocol": p, "proxied": True}
                 for n, p in ((80, "tcp"), (81, "http"))]  # fmt: skip
    whole = [{**each, "algorithm": algorithm, "members": MEMBERS} for each in listeners]
    must_be_taken(config({"balancer": {"listeners": whole}}), tmp_path)


@pytest.mark.parametrize(
    "text", ["it's", 'a "b', "$HOME", "\\", "# x", "-i", "%[src]", "a b", "} ; {", "{ }"]
)
def test_a_text_is_taken_for_what_it_is(tmp_path: Path, text: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    listener: dict[str, Any] = document["balancer"]["listeners"][0]  # type: ignore[index,assignment]
    listener["routes"][0]["when"][0]["value"] = text
    made = config(document)
    assert "'\\''".join(text.split("'")) in made.text
    must_be_taken(made, tmp_path)


#: Where in the listener (or from the document's root), what stands there instead, the field that is named,
#: and words of the message.
BAD: list[tuple[str, Any, str, str]] = [
    ("certificates", [], "", "https needs one"),
    ("certificates", ["her site"], "certificates[0]", "there is no certificate"),
    ("protocol", "http", "certificates", "http has none"),
    ("protocol", "tcp", "certificates", "Leave it out"),
    ("affinity", {"kind": "app_cookie"}, "affinity.cookie", "Name the cookie"),
    ("affinity", {"kind": "cookie", "cookie": "a b"}, "affinity.cookie", "no name of a cookie"),
    ("routes.0.to", "api", "routes[0].reject", "already"),
    ("routes.1.to", "apo", "routes[1].to", "there is no pool"),
    ("routes.1.name", "no", "routes[1].name", "another name"),
    ("routes.1.code", 301, "routes[1].code", "nobody is sent"),
    ("routes.2.redirect", "nowhere", "routes[2].redirect", "no URL"),
    ("routes.2.code", 200, "routes[2].code", "none of: 301"),
    ("routes.0.when.0.key", "", "routes[0].when[0].key", "no name of a cookie"),
    ("routes.1.when.0.key", "k", "routes[1].when[0].key", "has none"),
    ("routes.1.when.0.value", "", "routes[1].when[0].value", "empty"),
    ("routes.1.when.0.value", "a\nb", "routes[1].when[0].value", "control"),
    ("routes.1.when.0", {"kind": "path", "compare": "regex", "value": "("},
     "routes[1].when[0].value", "regular"),
    ("pools.api.algorithm", "best", "pools.api.algorithm", "none of: round_robin"),
    ("pools.api.members.0.port", None, "pools.api.members[0].port", "Give it"),
    ("pools.api.members.0.address", "x", "pools.api.members[0].address", "no IP address"),
    ("pools.api", 5, "pools.api", "object"),
    ("timeouts.client", 0, "timeouts.client", ">= 0.001"),
]  # fmt: skip


@pytest.mark.parametrize(("where", "value", "named", "words"), BAD, ids=lambda value: str(value)[:24])
def test_what_cannot_be_done_is_refused(where: str, value: Any, named: str, words: str) -> None:
    document: Any = copy.deepcopy(DOCUMENT)
    at: Any = document["balancer"]["listeners"][0]
    *steps, last = [int(step) if step.isdigit() else step for step in where.split(".")]
    for step in steps:
        at = at[step]
    if value is None:
        del at[last]
    else:
        at[last] = value
    with pytest.raises(BadField) as refused:
        parse(document)
    assert refused.value.field == f"balancer.listeners[0].{named or where}"
    assert words in refused.value.message


@pytest.mark.parametrize(
    "field",
    [{"timeouts": {"client": 1}}, {"send_proxy": 1}, {"tls_to_members": True}, {"routes": [{"name": "r"}]}],
)  # fmt: skip
def test_the_kernel_is_not_asked_for_what_a_proxy_does(field: dict[str, Any]) -> None:
    listener = {"name": "l", "address": "192.0.2.2", "port": 80, **field}
    with pytest.raises(BadField, match=r"Leave it out|Use http"):
        parse({"balancer": {"listeners": [listener]}})


def with_site(**fields: str) -> dict[str, Any]:
    document: Any = copy.deepcopy(DOCUMENT)
    document["balancer"]["certificates"]["my site"].update(fields)
    return document  # type: ignore[no-any-return]


def test_a_certificate_fits_its_key_and_has_not_expired() -> None:
    other, past = certificate("other.example.org"), certificate("site.example.org", days=-1)
    for fields, words in (
        ({"key": other["key"]}, "not the key of this"),
        ({"key": "secret"}, "no private key"),
        ({"certificate": "secret"}, "no certificate in PEM"),
    ):
        with pytest.raises(BadField, match=words) as refused:
            parse(with_site(**fields))
        assert "secret" not in refused.value.message
    now, old = datetime.now(UTC), with_site(**past)
    with pytest.raises(BadField, match="has expired on"):
        expired(parse(old), now, DOCUMENT)
    expired(parse(old), now, old)


def test_a_key_is_hidden_and_kept() -> None:
    shown = redacted(DOCUMENT)
    assert shown["balancer"]["certificates"]["my site"] == {"certificate": SITE["certificate"], "key": HIDDEN}
    assert SITE["key"] not in str(shown)
    assert restored(shown, DOCUMENT) == DOCUMENT
    with pytest.raises(BadField, match="Give it") as refused:
        restored(shown, {})
    assert refused.value.field == "balancer.certificates.my site.key"


def test_a_difference_tells_no_key() -> None:
    other = certificate("site.example.org")
    found = difference(parse(DOCUMENT), parse(with_site(**other)))
    assert found == ["balancer: certificate 'my site': another one."]
    gone: Any = copy.deepcopy(DOCUMENT)
    listener = gone["balancer"]["listeners"][0]
    listener["pools"]["api"]["send_proxy"] = 1
    listener["routes"][1:] = listener["routes"][:0:-1]
    assert difference(parse(DOCUMENT), parse(gone)) == [
        "balancer: listener 'web': pool 'api': send_proxy was 2, is 1.",
        "balancer: listener 'web': routes are in another order: no, old, api.",
    ]


def test_statistics_are_the_listeners_and_the_members() -> None:
    said = """\
# pxname,svname,scur,stot,bin,bout,ereq,status,
f0,FRONTEND,3,10,100,200,1,OPEN,
b0.0,s0,1,5,50,100,,UP,
b0.0,s1,0,0,0,0,,DOWN 1/2,
b0.1,s0,0,0,0,0,,no check,
b0.0,BACKEND,1,5,50,100,,UP,
"""
    counts, states = read_statistics(said, config(DOCUMENT))
    assert counts == {"web": ListenerCount(connections=3, total=10, bytes_in=100, bytes_out=200, errors=1)}
    assert states == {
        "web//10.0.0.5:80": "up",
        "web//10.0.0.6:81": "down",
        "web/api/10.0.0.6:81": "unknown",
    }


ASKED = {
    "name": "asked", "address": "192.0.2.2", "port": 80, "protocol": "http", "algorithm": "least_connections",
    "connections": 200, "allowed": ["198.51.100.0/24", "192.0.2.9"],
    "members": [
        {"address": "10.0.0.5", "port": 80, "monitor_address": "10.0.0.7", "monitor_port": 8080},
        {"address": "10.0.0.6", "port": 81, "backup": True},
    ],
    "health": {
        "kind": "https", "interval": 2, "timeout": 1, "rise": 2, "fall": 3, "method": "HEAD",
        "path": "/up?a=#b", "host": "www.example.org", "version": "1.1", "codes": "200,204-206",
    },
}  # fmt: skip
ASKED_TEXT = """\
  maxconn 200
  acl allowed src 198.51.100.0/24 192.0.2.9/32
  tcp-request connection reject if !allowed
  option idle-close-on-response
  default_backend b0.0

backend b0.0
  mode http
  balance leastconn
  timeout connect 5000ms
  timeout server 50000ms
  option allbackups
  timeout check 1000ms
  option httpchk
  http-check send meth HEAD uri '/up?a=#b' ver HTTP/1.1 hdr Host 'www.example.org'
  http-check expect status 200,204-206
  server s0 10.0.0.5:80 weight 1 check inter 2000ms fall 3 rise 2 addr 10.0.0.7 port 8080 \
check-ssl verify none
  server s1 10.0.0.6:81 weight 1 backup check inter 2000ms fall 3 rise 2 check-ssl verify none
"""


def test_members_are_asked_and_who_may_come_is_known(tmp_path: Path) -> None:
    found = rendered(parse({"balancer": {"listeners": [ASKED]}}), Settings())
    assert found is not None
    before, _, after = found.text.partition("  timeout client 50000ms\n")
    assert "frontend f0" in before
    assert after == ASKED_TEXT
    (tmp_path / "haproxy.cfg").write_text(found.text)
    done = subprocess.run(
        ["haproxy", "-c", "-f", "haproxy.cfg"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
