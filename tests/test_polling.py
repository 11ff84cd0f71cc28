"""A fraction of a processor for what the kernel does with packets: promised, and no more."""

from __future__ import annotations

import os
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest
from probes import Space, wait_for

from trunkline.devices import namespace, polling
from trunkline.errors import Conflict

pytestmark = pytest.mark.machine
TAG = f"po{os.getpid()}"
#: What threads are named for: no other interface of the machine has it.
DEVICE = f"p{os.getpid() % 100000}"


class Flood:
    """Small datagrams as fast as one thread sends them, by a router to somebody behind it."""

    def __init__(self, space: Space, to: str) -> None:
        self._socket = space.open(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.connect((to, 9))
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._ends.is_set():
            for _ in range(100):
                try:
                    self._socket.send(b"x")
                except OSError:
                    # Nobody listens there, which is said now and then.
                    pass

    def __enter__(self) -> Flood:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()
        self._socket.close()


@pytest.fixture
def path() -> Iterator[tuple[Space, Space]]:
    """A sender and the router that it sends by; what is sent ends there."""
    sender, router = Space(f"{TAG}-s"), Space(f"{TAG}-r", DEVICE)
    try:
        namespace.create(sender.netns, router.netns)
        sender.ip(f"link add eth0 type veth peer name {DEVICE} netns {router.netns}", "link set dev eth0 up")
        sender.ip("address add 10.0.0.5/24 dev eth0")
        router.ip(f"link set dev {DEVICE} up", f"address add 10.0.0.1/24 dev {DEVICE}")
        yield sender, router
    finally:
        namespace.delete(sender.netns, router.netns)


def part(thread: int, seconds: float) -> float:
    """How much of a processor a thread has, for so long."""
    began, had = time.monotonic(), polling.used(thread)
    time.sleep(seconds)
    return (polling.used(thread) - had) / (time.monotonic() - began)


def promised(thread: int, cores: float) -> bool:
    """What threads had that just ended, the kernel counts for a while."""
    try:
        polling.promise(thread, cores)
    except Conflict:
        return False
    return True


def test_a_thread_has_what_it_is_promised_and_no_more(path: tuple[Space, Space]) -> None:
    sender, router = path
    thread = polling.poll(router.netns, DEVICE, sender.netns, "eth0")
    with Flood(sender, "10.0.0.1"):
        wait_for(lambda: part(thread, 0.5) > 0.1, 20, "a thread does the work")
        for cores in (0.05, 0.02):
            wait_for(partial(promised, thread, cores), 60, "the kernel has that much left")
            had = statistics.median(part(thread, 1.0) for _ in range(3))
            assert cores * 0.8 < had < cores * 1.1
    router.ip(f"link del dev {DEVICE}")
    wait_for(lambda: not os.path.exists(f"/proc/{thread}"), 5, "the thread is gone")


def test_more_than_there_is_is_not_promised(path: tuple[Space, Space]) -> None:
    sender, router = path

    def promise_all() -> None:
        for n in range(os.cpu_count() or 1):
            name = f"{DEVICE}x{n}"
            sender.ip(f"link add e{n} type veth peer name {name} netns {router.netns}")
            router.ip(f"link set dev {name} up")
            polling.promise(polling.poll(router.netns, name, sender.netns, f"e{n}"), 1.0)

    with pytest.raises(Conflict, match="left to promise"):
        promise_all()
