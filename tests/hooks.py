"""Which BPF programs stand at interfaces, and how to take them away: by tcx, or else by clsact."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
from collections.abc import Iterator
from itertools import pairwise

from probes import Space

from trunkline.devices import bpf, namespace
from trunkline.devices.bpf import Side

_SIDE = Side.ARRIVING
#: Of struct bpf_prog_info.
_INFO, _NAME = 256, slice(64, 80)


def programs(netns: str, device: str) -> list[str]:
    """Their names, of those that see what arrives."""

    def by_tcx() -> list[str] | None:
        found = bpf.tcx(socket.if_nametoindex(device), _SIDE)
        return None if found is None else [_name(number) for number in found]

    found = namespace.inside(netns, by_tcx)
    if found is not None:
        return found
    words = Space(netns).run("tc", "filter", "show", "dev", device, "ingress").stdout.split()
    # ... handle 0x1 across:[113874] direct-action ...
    return [name.partition(":")[0] for name, mode in pairwise(words) if mode == "direct-action"]


def take_off(netns: str, device: str) -> None:
    """Those that see what arrives."""

    def by_tcx() -> bool:
        index = socket.if_nametoindex(device)
        found = bpf.tcx(index, _SIDE)
        for number in found or ():
            with _opened(number) as descriptor:
                assert bpf.library().bpf_prog_detach2(descriptor, index, _SIDE) == 0
        return found is not None

    if not namespace.inside(netns, by_tcx):
        assert Space(netns).run("tc", "qdisc", "delete", "dev", device, "clsact").returncode == 0


def _name(number: int) -> str:
    info, size = ctypes.create_string_buffer(_INFO), ctypes.c_uint32(_INFO)
    with _opened(number) as descriptor:
        assert bpf.library().bpf_obj_get_info_by_fd(descriptor, info, ctypes.byref(size)) == 0
    return info.raw[_NAME].rstrip(b"\0").decode()


@contextlib.contextmanager
def _opened(number: int) -> Iterator[int]:
    descriptor = int(bpf.library().bpf_prog_get_fd_by_id(number))
    assert descriptor >= 0
    try:
        yield descriptor
    finally:
        os.close(descriptor)
