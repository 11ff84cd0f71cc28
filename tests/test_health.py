"""Whether members are well: what answers make of them, with made-up answers and time; what asks, on loopback.

| claim | and in reverse |
| --- | --- |
| one is down after so many failures in a row, and up after so many answers | one answer between begins anew |
| one that is not known may be chosen until it is down | |
| what becomes of each is told once, with its cause | |
| what is known stays known when something else of the policy changes | |
| who does not answer while shards move is asked again before that counts | |
| each kind of question finds who is well, and says why another one is not | |
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from web_members import certificate

from trunkline.resources.appliance_policy import Health, Policy, parse
from trunkline.units import checks
from trunkline.units.health import Checks, Verdict


@pytest.mark.parametrize(
    ("rise", "fall", "heard", "states"),
    [
        (2, 3, "-", "?"),
        (2, 3, "---", "??d"),
        (2, 3, "--+--", "??uuu"),
        (2, 3, "+---+-++", "uuudddd" + "u"),
        (1, 1, "-+-+", "dudu"),
        (3, 2, "--++-+++", "?dddddd" + "u"),
    ],
)
def test_so_many_in_a_row(rise: int, fall: int, heard: str, states: str) -> None:
    verdict, seen = Verdict(rise, fall), ""
    for each in heard:
        before = verdict.state
        changed = verdict.heard(each == "+")
        assert changed == (verdict.state != before)
        seen += {"unknown": "?", "up": "u", "down": "d"}[verdict.state]
    assert seen == states


def policy(*members: dict[str, Any], **listener: Any) -> Policy:
    health = {"kind": "tcp", "interval": 0.1, "timeout": 0.1, "rise": 2, "fall": 2}
    given = {"name": "web", "address": "192.0.2.1", "port": 80, "members": members, "health": health}
    return parse({"balancer": {"listeners": [given | listener]}})


ONE, TWO = {"address": "10.0.0.5", "port": 80}, {"address": "10.0.0.6", "port": 80, "monitor_port": 81}


class Members:
    """How they answer, and what became of that."""

    def __init__(self) -> None:
        self.problems: dict[tuple[str, int], str] = {}
        self.told: list[tuple[str, str]] = []
        self.asked = 0
        self._news = asyncio.Event()
        self.checks = Checks(self._news.set, lambda what, cause: self.told.append((what, cause)), self._ask)

    async def _ask(self, health: Health, address: str, port: int) -> str:
        self.asked += 1
        return self.problems.get((address, port), "")

    async def are(self, *states: str) -> None:
        async with asyncio.timeout(20):
            while [*self.checks.states().values()] != [*states]:
                self._news.clear()
                await self._news.wait()


def test_what_becomes_of_each_is_told_once() -> None:
    async def scene() -> None:
        members = Members()
        members.checks.want(policy(ONE, TWO))
        assert members.checks.states() == {"web//10.0.0.5:80": "unknown", "web//10.0.0.6:80": "unknown"}
        assert not members.checks.down()
        await members.are("up", "up")
        members.problems["10.0.0.6", 81] = "connection refused"
        await members.are("up", "down")
        assert members.checks.down() == {("web", "10.0.0.6", 80)}
        # Another weight is no other member, and another member changes nothing of this one.
        members.checks.want(policy(ONE | {"weight": 3}, TWO, {"address": "10.0.0.7", "port": 80}))
        await members.are("up", "down", "up")
        members.problems.clear()
        await members.are("up", "up", "up")
        assert members.told == [
            ("Member web//10.0.0.6:80 is down.", "connection refused (2 times in a row)"),
            ("Member web//10.0.0.6:80 is up again.", "it answered 2 times in a row"),
        ]
        members.checks.want(policy(ONE, health=None))
        assert members.checks.states() == {}
        members.checks.close()

    asyncio.run(scene())


def test_who_does_not_answer_while_shards_move_is_asked_again() -> None:
    async def scene() -> None:
        members, lost = Members(), 0

        async def ask(health: Health, address: str, port: int) -> str:
            nonlocal lost
            # Every first question is lost with its shard.
            if members.asked % 2 == 0:
                lost += 1
                made.disturbed()
                members.problems[address, port] = "no answer"
            else:
                members.problems.clear()
            return await members._ask(health, address, port)

        made = members.checks = Checks(members._news.set, lambda what, cause: None, ask)
        made.want(policy(ONE))
        await members.are("up")
        async with asyncio.timeout(20):
            while lost < 5:
                await asyncio.sleep(0.01)
        assert not made.down()
        made.close()

    asyncio.run(scene())


@contextlib.asynccontextmanager
async def serving(answer: bytes, secure: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A port of loopback that answers so."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            heard.append(await reader.readline())
            writer.write(answer)
            await writer.drain()
        writer.close()

    heard: list[bytes] = []
    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=secure) as server:
        yield server.sockets[0].getsockname()[1]


def found(kind: str, answer: bytes, secure: ssl.SSLContext | None = None, **more: Any) -> str:
    async def scene() -> str:
        async with serving(answer, secure) as port:
            return await checks.ask(Health(kind=kind, timeout=2.0, **more), "127.0.0.1", port)  # type: ignore[arg-type]

    return asyncio.run(scene())


def test_each_kind_finds_who_is_well() -> None:
    assert found("tcp", b"") == ""
    assert found("http", b"HTTP/1.1 200 OK\r\n\r\n") == ""
    assert found("http", b"HTTP/1.0 301 \r\n\r\n", codes="200, 300-302") == ""
    assert found("http", b"HTTP/1.1 503 No\r\n\r\n") == "code 503"
    assert found("http", b"SSH-2.0-OpenSSH\r\n") == "no answer in HTTP"
    assert found("http", b"") == "it ended the connection"
    assert found("tls", b"HTTP/1.1 200 OK\r\n\r\n").startswith("TLS: ")


def test_whoever_has_a_certificate_is_well(tmp_path: Path) -> None:
    file = tmp_path / "both.pem"
    file.write_text("".join(certificate("member.example", days=-1.0).values()))
    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    secure.load_cert_chain(file)
    assert found("tls", b"", secure) == ""
    assert found("https", b"HTTP/1.1 200 OK\r\n\r\n", secure) == ""
    assert found("https", b"HTTP/1.1 200 OK\r\n\r\n", secure, host="member.example") == ""
    assert found("https", b"HTTP/1.1 500 No\r\n\r\n", secure) == "code 500"


def test_a_closed_port_is_told() -> None:
    with socket.socket() as taken, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        taken.bind(("127.0.0.1", 0))
        silent.bind(("127.0.0.1", 0))
        closed, open_ = taken.getsockname()[1], silent.getsockname()[1]

        def ask(kind: Any, port: int) -> str:
            return asyncio.run(checks.ask(Health(kind=kind, timeout=0.3), "127.0.0.1", port))

        assert ask("tcp", closed) == "connection refused"
        assert ask("udp", closed) == "connection refused"
        assert ask("udp", open_) == ""
