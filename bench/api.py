"""What the Network API does in a second: ports created, read and listed, over HTTP, durably.

python -m bench.api --state DIR
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from bench.load import Connection, Result, drive


def token(auth: dict[str, str]) -> str:
    """Logs in."""
    domain = {"name": "Default"}
    user = {"name": auth["username"], "domain": domain, "password": auth["password"]}
    identity = {"methods": ["password"], "password": {"user": user}}
    scope = {"project": {"name": auth["project_name"], "domain": domain}}
    request = urllib.request.Request(
        f"{auth['auth_url']}/auth/tokens",
        json.dumps({"auth": {"identity": identity, "scope": scope}}).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return str(reply.headers["X-Subject-Token"])


class Bench:
    """One cloud, as its administrator."""

    def __init__(self, state: Path) -> None:
        self.auth = yaml.safe_load((state / "clouds.yaml").read_text())["clouds"]["trunkline-admin"]["auth"]
        self.url = self.auth["auth_url"].removesuffix("/identity/v3")
        self.headers = {"X-Auth-Token": token(self.auth)}

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request outside of any measurement."""
        connection = Connection(self.url, self.headers)
        await connection.open()
        status, content = await connection.request(method, path, body)
        connection.close()
        assert status < 300, (status, content[:300])
        return json.loads(content) if content else None

    async def run(self, clients: int, requests: Iterator[tuple[str, str, Any]], keep: bool = False) -> Result:
        """Measures."""
        return await drive(self.url, self.headers, clients, requests, keep=keep)


async def measure(state: Path, count: int) -> None:
    """Prints the table."""
    bench = Bench(state)
    api = "/network/v2.0"
    project = await bench.call("GET", "/identity/v3/auth/projects")
    own = next(p["id"] for p in project["projects"] if p["name"] == "admin")
    quota = {"network": -1, "subnet": -1, "port": -1, "security_group": -1}
    await bench.call("PUT", f"{api}/quotas/{own}", {"quota": quota})
    network = (await bench.call("POST", f"{api}/networks", {"network": {"name": "bench"}}))["network"]["id"]
    subnet = {"network_id": network, "ip_version": 4, "cidr": "10.64.0.0/12"}
    await bench.call("POST", f"{api}/subnets", {"subnet": subnet})
    made: list[str] = []

    def ports(number: int) -> Iterator[tuple[str, str, Any]]:
        for n in range(number):
            yield "POST", f"{api}/ports", {"port": {"network_id": network, "name": f"p{n}"}}

    for clients in (1, 8, 32):
        result = await bench.run(clients, ports(count), keep=True)
        made += [json.loads(body)["port"]["id"] for body in result.bodies if body.startswith(b'{"port"')]
        print(result.row(f"POST port, {clients} clients"), flush=True)
        for failure in result.failures[:2]:
            print("   ", failure)
    several = [{"network_id": network, "name": f"b{n}"} for n in range(100)]
    bulk = await bench.run(1, iter([("POST", f"{api}/ports", {"ports": several})] * 5), keep=True)
    made += [p["id"] for body in bulk.bodies for p in json.loads(body)["ports"]]
    print(bulk.row("POST 100 ports at once, 1 client"), f"  = {bulk.rate * 100:.0f} ports/s")
    reads = itertools.islice(itertools.cycle(made), count)
    result = await bench.run(8, (("GET", f"{api}/ports/{id}", None) for id in reads))
    print(result.row("GET port, 8 clients"))
    listed = await bench.run(1, iter([("GET", f"{api}/ports?limit=1000", None)] * 15))
    print(listed.row("GET 1,000 ports, 1 client"))
    started = time.perf_counter()
    done = await bench.run(8, (("DELETE", f"{api}/ports/{id}", None) for id in made))
    print(done.row("DELETE port, 8 clients"), f"  {time.perf_counter() - started:.1f} s")
    await bench.call("DELETE", f"{api}/networks/{network}")


def main() -> None:
    """The command; see the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--count", type=int, default=500)
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.state, arguments.count))


if __name__ == "__main__":
    main()
