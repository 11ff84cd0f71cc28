"""What the host channel asks of the control plane: who may join, what each host is told, what it sees."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from trunkline.compiler.slices import HostSlice, changed_names
from trunkline.control.channel import token_matches
from trunkline.devices.pki import Authority
from trunkline.errors import Conflict
from trunkline.resources.region import Host, JoinToken
from trunkline.resources.reports import HostReport
from trunkline.store import Remembered, Store, Tx

#: A host that has not reported for so many seconds is taken for gone.
SILENCE = 5.0
#: A report that says nothing new is passed on all the same after so many seconds: what it is compared
#: with may have changed.
REPEAT = 3.0


class RegionDirectory:
    """Implements `channel.Directory` on the store, and holds what is not worth storing.

    Owns the newest slice of every host, and the time of every host's last report.
    """

    def __init__(
        self,
        store: Store,
        authority: Authority,
        images: Path,
        observe: Callable[[str, HostReport], Awaitable[None]],
        receive: Callable[[str, str, AsyncIterator[bytes]], Awaitable[None]],
    ) -> None:
        self._store = store
        self._authority = authority
        self._images = images
        self._observe = observe
        self._receive = receive
        #: Host name to the key that it joined with last.
        self._keys = Remembered(store, (Host,), lambda reader: {h.id: h.key for h in reader.select(Host)})
        self._slices: dict[str, HostSlice] = {}
        #: What each host was given last.
        self._given: dict[str, HostSlice] = {}
        self._published = asyncio.Event()
        self._closed = False
        #: Host name to the newest report, and to when it came (monotonic seconds).
        self.reports: dict[str, HostReport] = {}
        self.heard: dict[str, float] = {}
        #: (host, server) to the end of what the server wrote on its console.
        self.consoles: dict[tuple[str, str], bytes] = {}
        #: Host name to when its report was last passed on.
        self._told: dict[str, float] = {}
        #: Images whose content is coming from a host.
        self._receiving: set[str] = set()
        self._since = time.monotonic()

    @property
    def authority(self) -> Authority:
        """The region's authority."""
        return self._authority

    def publish(self, slices: Mapping[str, HostSlice]) -> None:
        """Takes newly compiled slices; wakes the hosts whose slice says something new."""
        news = False
        for host, new in slices.items():
            old = self._slices.get(host)
            if old is new:
                continue
            if old is None or msgspec.structs.replace(old, revision=new.revision) != new:
                self._slices[host], news = new, True
        for host in self._slices.keys() - slices.keys():
            del self._slices[host]
            self._given.pop(host, None)
        if news:
            self._published.set()
            self._published = asyncio.Event()

    def close(self) -> None:
        """Lets every waiting request go: the process ends."""
        self._closed = True
        self._published.set()

    def published_revision(self, host: str) -> int | None:
        """The revision of the host's newest slice."""
        found = self._slices.get(host)
        return None if found is None else found.revision

    def heard_at(self) -> Mapping[str, float]:
        """When each host's agent reported last, seconds since the epoch."""
        offset = time.time() - time.monotonic()
        return {host: offset + heard for host, heard in self.heard.items()}

    def silent(self, host: str) -> bool:
        """Whether the host's agent has not reported of late."""
        return time.monotonic() - self.heard.get(host, float("-inf")) > SILENCE

    def lost(self, host: str) -> bool:
        """Whether it is silent, and this process has been there long enough to have heard of it."""
        return time.monotonic() - self.heard.get(host, self._since) > SILENCE

    def check_token(self, secret: str) -> bool:
        """Whether this is the secret of a join token that is valid now."""
        with self._store.read() as reader:
            tokens = reader.select(JoinToken)
        now = time.time()
        return token_matches(secret, [t.id for t in tokens if t.expires_at > now]) is not None

    async def joined(self, host: str, secret: str, key: str) -> None:
        """Records that a host joined; see `channel.Directory.joined`."""

        def record(tx: Tx) -> None:
            digest = token_matches(secret, [t.id for t in tx.select(JoinToken)])
            token = tx.get(JoinToken, digest) if digest else None
            known = tx.get(Host, host)
            if known is not None and known.key == key:
                return
            if token is None or token.host not in ("", host):
                raise Conflict("The join token is spent. Ask the operator for a new one.")
            if known is not None and known.key and token.created_at <= known.joined_at:
                raise Conflict(
                    f"The name {host} is taken by a host with another key. "
                    "Choose another name, or ask the operator for a new token to replace that host."
                )
            now = time.time()
            if known is None:
                tx.insert(Host(id=host, key=key, joined_at=now))
            else:
                tx.replace(msgspec.structs.replace(known, key=key, joined_at=now))
            tx.replace(msgspec.structs.replace(token, host=host))

        await self._store.write(record)

    def accepts(self, host: str, key: str) -> bool:
        """Whether this is the key that the host joined with last, and the host was not removed."""
        return self._keys.get().get(host) == key

    async def slice_after(self, host: str, revision: int, timeout: float) -> HostSlice | None:
        """The host's slice once its revision is another; None after `timeout` seconds.

        Another, not only a higher one: a store that was restored from a backup counts from there. Where it is
        that of what the host was given last, names are told only where they are others than there.
        """
        try:
            async with asyncio.timeout(timeout):
                while not self._closed:
                    published = self._published
                    found = self._slices.get(host)
                    if found is not None and found.revision != revision:
                        known, self._given[host] = self._given.get(host), found
                        has = known is not None and known.revision == revision
                        return changed_names(found, known) if known is not None and has else found
                    await published.wait()
        except TimeoutError:
            pass
        return None

    async def console(self, host: str, server: str, text: bytes) -> None:
        """Takes the end of what a server wrote on its console; kept while its host reports it."""
        known = self.reports.get(host)
        if known is not None and any(seen.id == server for seen in known.servers):
            self.consoles[host, server] = text

    async def report(self, host: str, report: HostReport) -> None:
        """Takes what a host sees."""
        now = time.monotonic()
        here = {seen.id for seen in report.servers}
        for key in [key for key in self.consoles if key[0] == host and key[1] not in here]:
            del self.consoles[key]
        self.heard[host] = now
        old = self.reports.get(host)
        self.reports[host] = report
        news = old is None or msgspec.structs.replace(old, applied_revision=report.applied_revision) != report
        if news or now - self._told.get(host, 0.0) > REPEAT:
            self._told[host] = now
            await self._observe(host, report)

    async def read_console(self, host: str, server: str, lines: int | None) -> str:
        """What a server last wrote on its console, all or the last lines of what is kept."""
        text = self.consoles.get((host, server), b"").decode(errors="replace")
        return text if lines is None else "\n".join(text.split("\n")[-lines:]) if lines else ""

    def image_path(self, id: str) -> Path | None:
        """The file of an image; None where there is none."""
        path = self._images / id
        return path if "/" not in id and not id.startswith(".") and path.is_file() else None

    async def receive_image(self, host: str, id: str, content: AsyncIterator[bytes]) -> None:
        """Takes the content of an image that the host was to make of a server's disk.

        Raises:
            Conflict: it is coming already: an agent that was killed began it, and the next one repeats it.
                What is refused of one of two must not take away what was stored by the other.
        """
        if id in self._receiving:
            raise Conflict(
                f"The content of image {id[:80]} is on its way already. Ask again when it has ended."
            )
        self._receiving.add(id)
        try:
            await self._receive(host, id, content)
        finally:
            self._receiving.discard(id)
