"""Network namespaces by name.

| claim | and in reverse |
| --- | --- |
| an interface is there when its namespace can be entered | a name alone, for a moment, is none |
"""

from __future__ import annotations

import os

import pytest

from trunkline.devices import namespace

NAME = f"nn{os.getpid()}"


@pytest.mark.machine
def test_what_has_a_name_alone_has_no_interfaces() -> None:
    assert not namespace.has(NAME, "lo")
    # So far ip-netns(8) has come when it has made the file that it mounts the namespace on.
    namespace.path(NAME).parent.mkdir(exist_ok=True)
    namespace.path(NAME).touch()
    try:
        assert not namespace.has(NAME, "lo")
    finally:
        namespace.path(NAME).unlink()
    namespace.create(NAME)
    try:
        assert namespace.has(NAME, "lo")
        assert not namespace.has(NAME, "eth0")
    finally:
        namespace.delete(NAME)
