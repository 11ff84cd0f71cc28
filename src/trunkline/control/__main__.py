"""``python -m trunkline.control --state DIR``"""

from __future__ import annotations

import argparse
import gc
import logging
import socket
import sys
from pathlib import Path

from trunkline.devices.state import StateFolder


def main() -> int:
    """Runs the control process of a state folder until SIGTERM."""
    parser = argparse.ArgumentParser(prog="trunkline.control")
    parser.add_argument("--state", type=Path, required=True, help="the state folder of the cloud")
    folder = StateFolder(parser.parse_args().state.resolve())
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr
    )
    cloud = folder.load()
    api_socket = socket.socket(socket.AF_INET)
    api_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    api_socket.bind((cloud.api_address, cloud.api_port))
    api_socket.listen(1024)
    api_socket.setblocking(False)

    # Nearly all that the imports make stays: to look through it again and again takes a tenth of a second.
    # The process turns the collector on again when it serves.
    gc.disable()

    import uvloop

    from trunkline.control.process import ControlProcess

    uvloop.run(ControlProcess(folder, cloud, api_socket).run())
    return 0


if __name__ == "__main__":
    sys.exit(main())
