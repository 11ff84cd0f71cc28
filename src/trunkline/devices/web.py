"""Content from web servers that the operator lists, and from no others.

A user names the URL, and this process, which stands where users do not, asks for it: without care a user
would read through it what only the operator's machines can reach (SSRF). Therefore:

- nothing is asked for that the operator's list does not name (`Sources`);
- a name is resolved once, each of its addresses is looked at, and the connection goes to the address that
  was looked at, so a name server that changes its mind wins nothing;
- loopback, link-local, private and all other addresses that are not global (IANA's registries for special
  purposes, RFC 6890) are refused, unless the list has the address itself or its prefix; an IPv4 address
  inside an IPv6 one (RFC 4291 2.5.5.2, RFC 3056, RFC 6052) is looked at as what it is;
- a redirection is looked at as a new URL.
"""

from __future__ import annotations

import asyncio
import http.client
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urljoin, urlsplit

import yaml

from trunkline.errors import BadField, Unavailable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Prefix = ipaddress.IPv4Network | ipaddress.IPv6Network

#: Seconds for a connection, and for the next piece of an answer.
_PATIENCE = 20.0
_REDIRECTIONS = 5
_AT_ONCE = 4
_PIECE = 1024 * 1024
_PORTS = {"http": 80, "https": 443}
#: IPv4 addresses behind a translator (RFC 6052, 2.1).
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NAME = re.compile(r"(\*\.)?[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?")


@dataclass(frozen=True)
class Source:
    """An entry of the list: a name (``*.`` before it for all below it) or a prefix, perhaps with a port."""

    name: str = ""
    prefix: Prefix | None = None
    #: 0 for the port that the URL's scheme has by default.
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Source:
        """Reads ``NAME[:PORT]``, ``ADDRESS[:PORT]`` or ``PREFIX[:PORT]``; IPv6 with a port in brackets.

        Raises:
            ValueError: it is none of these.
        """
        text = text.strip().lower()
        match = re.fullmatch(r"\[(.+)\](?::(\d{1,5}))?|([^:]+)(?::(\d{1,5}))?|(.+)", text)
        if match is None:
            raise ValueError("an entry is empty")
        host, port = match[1] or match[3] or match[5], int(match[2] or match[4] or 0)
        if port > 65535:
            raise ValueError(f"'{text}' has no valid port")
        try:
            return cls(prefix=ipaddress.ip_network(host), port=port)
        except ValueError:
            if not _NAME.fullmatch(host) or "/" in host or re.fullmatch(r"[0-9.]+", host):
                raise ValueError(f"'{text}' is no host name, address or prefix") from None
            return cls(name=host, port=port)

    def fits_port(self, scheme: str, port: int) -> bool:
        """Whether a URL's port is the entry's."""
        return port == (self.port or _PORTS[scheme])

    def names(self, host: str) -> bool:
        """Whether the entry is of this name."""
        if self.name.startswith("*."):
            return host.endswith(self.name[1:])
        return bool(self.name) and host == self.name

    def holds(self, address: Address) -> bool:
        """Whether the entry is of this address."""
        return self.prefix is not None and address in self.prefix


class Sources:
    """The operator's list, a YAML file with a list of texts; read anew for each question.

    Where there is no file, or nothing in it, nothing may be fetched.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file

    def read(self) -> Sequence[Source]:
        """The entries.

        Raises:
            Unavailable: the file cannot be understood; it says how.
        """
        try:
            text = self._file.read_text() if self._file is not None else ""
        except FileNotFoundError:
            return ()
        try:
            found = yaml.safe_load(text) or []
            if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
                raise ValueError("it must be a list of texts")
            return tuple(Source.parse(each) for each in found)
        except (ValueError, yaml.YAMLError) as error:
            raise Unavailable(f"The operator's list of sources of images cannot be read: {error}.") from None


class Web:
    """Fetches from listed servers."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        # Threads of its own: they wait for others' servers, and nothing else may wait for them.
        self._threads = ThreadPoolExecutor(max_workers=_AT_ONCE, thread_name_prefix="web")

    def offered(self) -> bool:
        """Whether there is anything on the list."""
        try:
            return bool(self._sources.read())
        except Unavailable:
            return False

    def check(self, url: str) -> None:
        """Looks at a URL without resolving its name.

        Raises:
            BadField: it is malformed, or not on the list.
        """
        parts = _parts(url)
        sources = self._sources.read()
        host, port = parts.hostname or "", _port(parts)
        fitting = [source for source in sources if source.fits_port(parts.scheme, port)]
        address = _address(host)
        if any(source.names(host) if address is None else source.holds(address) for source in fitting):
            return
        raise BadField(
            "uri",
            f"images are not fetched from {host}:{port} here. Ask the operator to list it, or upload "
            "the image.",
        )

    async def get(
        self, url: str, headers: Mapping[str, str] | None = None, *, trusted: bool = False
    ) -> AsyncIterator[bytes]:
        """The content at a URL.

        Args:
            headers: sent with the request.
            trusted: the URL is the operator's own, not a user's: it is not looked up in the list, and
                redirections are not followed.
        Raises:
            BadField: the URL, or one that it leads to, is not allowed.
            Unavailable: there is no answer, another answer than 200, or it ends too early.
        """
        for _ in range(_REDIRECTIONS):
            loop = asyncio.get_running_loop()
            answer, connection = await loop.run_in_executor(
                self._threads, self._open, url, headers or {}, trusted
            )
            try:
                if not trusted and answer.status in (301, 302, 303, 307, 308):
                    url = urljoin(url, answer.getheader("location") or "")
                    continue
                if answer.status != 200:
                    raise Unavailable(f"{_shown(url)} answered {answer.status} {answer.reason}.")
                length, got = answer.length, 0
                while piece := await loop.run_in_executor(self._threads, _read, answer, url):
                    got += len(piece)
                    yield piece
                if length is not None and got != length:
                    raise Unavailable(f"{_shown(url)} ended after {got} of {length} bytes.")
                return
            finally:
                connection.close()
        raise Unavailable(f"{_shown(url)}: more than {_REDIRECTIONS} redirections.")

    def _open(
        self, url: str, headers: Mapping[str, str], trusted: bool
    ) -> tuple[http.client.HTTPResponse, http.client.HTTPConnection]:
        if not trusted:
            self.check(url)
        parts = _parts(url)
        host, port = parts.hostname or "", _port(parts)
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(host, port, timeout=_PATIENCE, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE)
        try:
            sock = socket.create_connection((self._resolve(host, port, trusted), port), _PATIENCE)
            connection.sock = (
                context.wrap_socket(sock, server_hostname=host) if parts.scheme == "https" else sock
            )
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", path, headers={"Accept-Encoding": "identity", **headers})
            return connection.getresponse(), connection
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Unavailable(f"{_shown(url)} cannot be fetched: {error}.") from None
        except BaseException:
            connection.close()
            raise

    def _resolve(self, host: str, port: int, trusted: bool) -> str:
        """The address that is connected to: the first of the name's, if all of them are allowed."""
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [str(each[4][0]).partition("%")[0] for each in found]
        if not trusted:
            sources = self._sources.read()
            for text in addresses:
                address = ipaddress.ip_address(text)
                if not is_global(address) and not any(source.holds(address) for source in sources):
                    raise BadField(
                        "uri",
                        f"{host} leads to {text}, which is no public address. Ask the operator to list it.",
                    )
        return addresses[0]


def is_global(address: Address) -> bool:
    """Whether an address is of the public Internet, and what it stands for is too."""
    if isinstance(address, ipaddress.IPv6Address):
        inner: Address | None = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if address.teredo is not None or address.is_site_local:
            return False
        if inner is not None:
            return is_global(inner)
    return address.is_global and not (address.is_multicast or address.is_reserved or address.is_unspecified)


def _parts(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        known = parts.scheme in _PORTS and parts.hostname and _port(parts)
    except ValueError:
        known = False
    if not known or re.search(r"[^\x21-\x7e]", url):
        raise BadField("uri", "it must be a URL with http or https and a host, in ASCII without spaces.")
    if "@" in parts.netloc:
        raise BadField("uri", "a URL with a user's name or password is not taken.")
    return parts


def _port(parts: SplitResult) -> int:
    return parts.port or _PORTS[parts.scheme]


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _read(answer: http.client.HTTPResponse, url: str) -> bytes:
    try:
        return answer.read(_PIECE)
    except (OSError, http.client.HTTPException) as error:
        raise Unavailable(f"{_shown(url)} broke off: {error}.") from None


def _shown(url: str) -> str:
    """A URL without its query, which may hold a secret."""
    return url.partition("?")[0][:200]
