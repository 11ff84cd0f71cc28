"""The cloud's public API as the command uses it: by clouds.yaml, with the standard library's HTTP client.

api = Api.open(state, cloud="trunkline")         # user and project demo
api.get("network", "/v2.0/networks", name="web")
api.post("compute", "/v2.1/servers", {"server": {...}})
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
from collections.abc import Callable
from typing import Any, TypeVar

from trunkline.devices.state import StateFolder
from trunkline.errors import NotFound, Unavailable

T = TypeVar("T")
#: Path prefixes of the services below the one port.
_PREFIXES = {
    "identity": "/identity",
    "network": "/network",
    "compute": "/compute",
    "image": "/image",
    "appliance": "/appliance",
}


class ApiError(Unavailable):
    """The cloud said no; the message has its words. `field`: which field it is about, where that is told."""

    def __init__(self, status: int, message: str, field: str = "") -> None:
        super().__init__(message, field=field)
        self.status = status


class Api:
    """One user's view of the cloud. Raises `ApiError` for every answer of 400 and more."""

    def __init__(self, address: str, port: int, auth: dict[str, str]) -> None:
        """Logs in with the `auth` of an entry of clouds.yaml."""
        self._address, self._port = address, port
        self._token = ""
        user = {"name": auth["username"], "domain": {"name": auth["user_domain_name"]}}
        project = {"name": auth["project_name"], "domain": {"name": auth["project_domain_name"]}}
        body = {
            "auth": {
                "identity": {
                    "methods": ["password"],
                    "password": {"user": {**user, "password": auth["password"]}},
                },
                "scope": {"project": project},
            }
        }
        headers, answer = self._send("POST", "/identity/v3/auth/tokens", body)
        self._token = headers.get("x-subject-token", "")
        #: The project that it acts for.
        self.project_id: str = answer["token"]["project"]["id"]

    @classmethod
    def open(cls, state: StateFolder, cloud: str = "trunkline") -> Api:
        """Logs in as one of the clouds of the state folder's clouds.yaml.

        Raises:
            NotFound: there is no such cloud in it, or no such file.
            Unavailable: the API does not answer.
        """
        import yaml

        try:
            entry = yaml.safe_load(state.clouds_yaml.read_text())["clouds"][cloud]
        except (FileNotFoundError, KeyError, TypeError):
            raise NotFound(f"{state.clouds_yaml} has no cloud {cloud}. `trunkline up` writes it.") from None
        url = urllib.parse.urlsplit(entry["auth"]["auth_url"])
        return cls(url.hostname or "127.0.0.1", url.port or 80, entry["auth"])

    def get(self, service: str, path: str, **query: str) -> Any:
        """The decoded JSON of an answer to GET."""
        suffix = f"?{urllib.parse.urlencode(query)}" if query else ""
        return self._send("GET", f"{_PREFIXES[service]}{path}{suffix}")[1]

    def post(self, service: str, path: str, body: Any) -> Any:
        """... to POST."""
        return self._send("POST", f"{_PREFIXES[service]}{path}", body)[1]

    def put(self, service: str, path: str, body: Any) -> Any:
        """... to PUT."""
        return self._send("PUT", f"{_PREFIXES[service]}{path}", body)[1]

    def delete(self, service: str, path: str) -> None:
        """Deletes; what is not there is deleted."""
        try:
            self._send("DELETE", f"{_PREFIXES[service]}{path}")
        except ApiError as error:
            if error.status != 404:
                raise

    def find(self, service: str, path: str, plural: str, name_or_id: str) -> dict[str, Any]:
        """One resource of a list, by id or by exact name.

        Raises:
            NotFound: there is none, or several have that name.
        """
        listed: list[dict[str, Any]] = self.get(service, path)[plural]
        found = [r for r in listed if r["id"] == name_or_id] or [r for r in listed if r["name"] == name_or_id]
        if len(found) == 1:
            return found[0]
        many = f"{len(found)} {plural} have the name {name_or_id}: give an id, one of "
        if found:
            raise NotFound(many + ", ".join(r["id"] for r in found) + ".")
        names = ", ".join(sorted(str(r["name"]) for r in listed)) or "none"
        raise NotFound(f"There is no {plural.removesuffix('s')} {name_or_id}. There are: {names}.")

    def _send(self, method: str, path: str, body: Any = None) -> tuple[dict[str, str], Any]:
        headers = {"Accept": "application/json", "OpenStack-API-Version": "compute 2.1"}
        if self._token:
            headers["X-Auth-Token"] = self._token
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        connection = http.client.HTTPConnection(self._address, self._port, timeout=60)
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                f"The API at {self._address}:{self._port} does not answer ({error}). "
                "`trunkline status` shows why, `trunkline up` starts it."
            ) from None
        finally:
            connection.close()
        if response.status >= 400:
            words, field = _words(content)
            raise ApiError(response.status, f"{method} {path}: {response.status} {words}", field)
        answer = json.loads(content) if content.strip() else None
        return {name.lower(): value for name, value in response.getheaders()}, answer


def _words(content: bytes) -> tuple[str, str]:
    """The message of an error body, in whichever service's form, and the field that it is about or ""."""
    try:
        body = json.loads(content)
        inner = next(iter(body.values())) if isinstance(body, dict) and len(body) == 1 else body
        if not isinstance(inner, dict):
            return str(inner), ""
        return str(inner.get("message", inner)), str(inner.get("field", ""))
    except (ValueError, AttributeError):
        return content.decode(errors="replace")[:300], ""


def get_json(
    url: str,
    timeout: float = 10.0,
    headers: dict[str, str] | None = None,
    method: str = "GET",
    body: Any = None,
) -> Any:
    """The JSON that a URL answers with, whatever its status. A body is sent as JSON.

    Raises:
        OSError: nothing (or nothing sensible) answers there.
    """
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout)
    try:
        sent = None if body is None else json.dumps(body)
        connection.request(method, parts.path, sent, headers or {})
        return json.loads(connection.getresponse().read())
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(str(error)) from None
    finally:
        connection.close()


def wait_until(ask: Callable[[], T | None], seconds: float, complaint: str) -> T:
    """What `ask` returns as soon as it is not None.

    Raises:
        Unavailable: it did not in that time.
    """
    deadline, pause = time.monotonic() + seconds, 0.05
    while (found := ask()) is None:
        if time.monotonic() > deadline:
            raise Unavailable(f"{complaint} within {seconds:g} s.")
        time.sleep(pause)
        pause = min(pause * 1.3, 0.5)
    return found
