"""Sends small datagrams of many flows at a steady rate, and has most of a processor left for others.

    python -m bench.appliance.sender TARGET PORT FLOWS RATE

A flow's turn is a burst: one call to the kernel, which makes datagrams of it (udp(7), UDP_SEGMENT).
"""

from __future__ import annotations

import socket
import sys
import time

from bench.appliance.throughput import SMALL
from trunkline.traffic import promptness

_UDP_SEGMENT = 103
#: Datagrams of a burst.
BURST = 8
#: Between two looks at what is due, seconds, and after so much more than a burst's nothing is made up for.
_BEAT, _FORGOTTEN = 0.0005, 0.004


def main() -> None:
    """Until it is killed."""
    promptness.go_first()
    target, port, flows, rate = sys.argv[1], *map(int, sys.argv[2:5])
    ends = [_flow(target, port) for _ in range(flows)]
    data = bytes(SMALL * BURST)
    forgotten = _FORGOTTEN + BURST / rate
    began, turn = time.monotonic(), 0
    while True:
        late = time.monotonic() - began - turn * BURST / rate
        if late > forgotten:
            began += late
        for _ in range(int(late * rate / BURST)):
            try:
                ends[turn % flows].send(data)
            except OSError:
                # What does not fit is not sent.
                pass
            turn += 1
        time.sleep(_BEAT)


def _flow(target: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    made.setsockopt(socket.IPPROTO_UDP, _UDP_SEGMENT, SMALL)
    made.connect((target, port))
    return made


if __name__ == "__main__":
    main()
