"""``python -m trunkline.keeper --state DIR``"""

from __future__ import annotations

import argparse
import asyncio
import fcntl
import os
import signal
import sys
from pathlib import Path

from trunkline.devices.state import StateFolder
from trunkline.keeper.supervisor import Supervisor


def main() -> int:
    parser = argparse.ArgumentParser(prog="trunkline.keeper")
    parser.add_argument("--state", type=Path, required=True, help="the state folder of the cloud")
    state = StateFolder(parser.parse_args().state.resolve())
    lock = os.open(state.run / "keeper.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"{state.root} has a keeper already", file=sys.stderr)
        return 1
    asyncio.run(_keep(Supervisor(state)))
    return 0


async def _keep(supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.stop)
    loop.add_signal_handler(signal.SIGHUP, supervisor.reload)
    await supervisor.run()


if __name__ == "__main__":
    sys.exit(main())
