"""Plain forwarding: a Linux router that remembers nothing."""

from __future__ import annotations

from collections.abc import Sequence

from bench.appliance.path import INSIDE, OUTSIDE, SERVERS, forwards, reaches, wait_for
from bench.appliance.peer import Deed, Peer


class Plain(Peer):
    """The baseline, as a peer: what the path itself does."""

    def build(self) -> None:
        router = self.path.space("r")
        self.path.plug(router, "inside", f"{INSIDE}/24")
        self.path.plug(router, "outside", f"{OUTSIDE}/24")
        forwards(router)
        wait_for(lambda: reaches(self.path.client, SERVERS[0]), 10, lambda: "the plain router forwards")

    def deeds(self) -> Sequence[Deed]:
        return [Deed("nothing", lambda: None)]
