"""OVN's central daemons in a folder of the test's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from ovsdb_lab import OVN_NB, OVN_SB, Daemon, OvsdbServer, run, short_folder


class Central:
    """Both databases and northd, on Unix sockets."""

    def __init__(self, folder: Path) -> None:
        env = {"OVN_RUNDIR": str(folder), "OVS_RUNDIR": str(folder)}
        self.nb = OvsdbServer(folder, "nb", OVN_NB)
        self.sb = OvsdbServer(folder, "sb", OVN_SB)
        self.northd = Daemon(
            "northd",
            [
                "ovn-northd",
                f"--ovnnb-db={self.nb.remote}",
                f"--ovnsb-db={self.sb.remote}",
                f"--unixctl={folder}/northd.ctl",
            ],
            folder,
            env,
        )

    def start(self) -> None:
        for daemon in (self.nb, self.sb, self.northd):
            daemon.start()

    def stop(self) -> None:
        for daemon in (self.northd, self.sb, self.nb):
            daemon.stop()

    def nbctl(self, *arguments: str) -> str:
        return run("ovn-nbctl", f"--db={self.nb.remote}", "--timeout=20", *arguments)

    def sbctl(self, *arguments: str) -> str:
        return run("ovn-sbctl", f"--db={self.sb.remote}", "--timeout=20", *arguments)

    def sync(self) -> None:
        """Returns when northd has translated everything."""
        self.nbctl("--wait=sb", "sync")

    def complaints(self) -> list[str]:
        """What northd warns of; nothing we write may cause any."""
        lines = self.northd.log.read_text().splitlines()
        return [line for line in lines if "|WARN|" in line or "|ERR|" in line or "yntax error" in line]


@contextlib.contextmanager
def central() -> Iterator[Central]:
    """Daemons that live as long as the block."""
    with short_folder() as folder:
        made = Central(folder)
        try:
            made.start()
            made.sync()
            yield made
        finally:
            made.stop()
