"""Values of OVSDB, and the framing of its messages."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.devices.ovsdb import Column, Operations, ProtocolError, Schema, TransactError
from trunkline.devices.ovsdb.jsonrpc import Framer
from trunkline.devices.ovsdb.operations import check
from trunkline.devices.ovsdb.schema import UNLIMITED
from trunkline.errors import Unavailable

UUID = "01234567-89ab-cdef-0123-456789abcdef"
ONE = Column("one", "string")
OPTIONAL = Column("optional", "integer", min=0)
MANY = Column("many", "string", min=0, max=UNLIMITED)
MAP = Column("map", "string", "string", min=0, max=UNLIMITED)
REFERENCES = Column("references", "uuid", min=0, max=UNLIMITED)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(st.dictionaries(st.text(), json_values, max_size=4), max_size=5), st.randoms())
def test_a_stream_cut_anywhere_gives_the_same_messages(messages: list[Any], chance: random.Random) -> None:
    stream = b"".join(json.dumps(message, ensure_ascii=False).encode() for message in messages)
    framer = Framer()
    seen: list[bytes] = []
    while stream:
        size = chance.randint(1, len(stream))
        seen += framer.feed(stream[:size])
        stream = stream[size:]
    assert [json.loads(message) for message in seen] == messages


@pytest.mark.parametrize("stream", [b"}", b'{"a":1}}', b"HTTP/1.1 400"])
def test_what_is_no_object_is_refused(stream: bytes) -> None:
    framer = Framer()
    with pytest.raises(ProtocolError):
        list(framer.feed(b"{}" + stream))


@pytest.mark.parametrize(
    ("column", "wire", "value"),
    [
        (ONE, "x", "x"),
        (OPTIONAL, ["set", []], None),
        (OPTIONAL, 7, 7),
        (OPTIONAL, ["set", [7]], 7),
        (MANY, "x", frozenset({"x"})),
        (MANY, ["set", ["x", "y"]], frozenset({"x", "y"})),
        (MAP, ["map", [["a", "b"]]], {"a": "b"}),
        (REFERENCES, ["uuid", UUID], frozenset({UUID})),
    ],
)
def test_values_look_in_python_as_documented(column: Column, wire: Any, value: Any) -> None:
    assert column.decode(wire) == value
    assert column.decode(column.encode(value)) == value


@pytest.mark.parametrize(
    ("column", "wire"),
    [
        (ONE, 1),
        (ONE, ["set", []]),
        (OPTIONAL, True),
        (OPTIONAL, ["set", [1, 2]]),
        (MANY, ["set", "x"]),
        (MAP, ["map", [["a"]]]),
        (MAP, ["set", ["a"]]),
        (REFERENCES, ["set", [UUID]]),
        (REFERENCES, {"uuid": UUID}),
    ],
)
def test_values_of_another_type_are_refused(column: Column, wire: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        column.decode(wire)


def test_a_reference_that_is_no_uuid_names_a_row_of_the_transaction() -> None:
    assert REFERENCES.encode([UUID, "p1"]) == ["set", [["uuid", UUID], ["named-uuid", "p1"]]]


@given(st.sets(st.text(max_size=2)), st.sets(st.text(max_size=2)))
def test_a_difference_of_sets_leads_from_one_to_the_other(old: set[str], new: set[str]) -> None:
    assert MANY.patched(frozenset(old), MANY.encode(old ^ new)) == new


texts = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("xy"))


@given(texts, texts)
def test_a_difference_of_maps_leads_from_one_to_the_other(old: dict[str, str], new: dict[str, str]) -> None:
    diff = {k: v for k, v in old.items() if k not in new} | {k: v for k, v in new.items() if old.get(k) != v}
    assert MAP.patched(old, MAP.encode(diff)) == new


def test_operations_name_the_column_that_does_not_fit() -> None:
    schema = Schema.parse({"name": "D", "tables": {"T": {"columns": {"c": {"type": "integer"}}}}})
    operations = Operations(schema)
    assert operations.insert("T", {"c": 1}, "n") == {
        "op": "insert",
        "table": "T",
        "row": {"c": 1},
        "uuid-name": "n",
    }
    with pytest.raises(ValueError, match=r"T\.c"):
        operations.insert("T", {"c": "x"})
    with pytest.raises(ValueError, match="no column d"):
        operations.update("T", UUID, {"d": 1})
    with pytest.raises(ValueError, match="no table U"):
        operations.delete("U", UUID)


def test_a_refused_transaction_tells_the_operation() -> None:
    operations = [{"op": "insert", "table": "T"}, {"op": "insert", "table": "U"}]
    with pytest.raises(TransactError, match="constraint violation in operation 1 on U: why") as caught:
        check([{"uuid": ["uuid", UUID]}, {"error": "constraint violation", "details": "why"}], operations)
    assert caught.value.operation == operations[1]
    with pytest.raises(TransactError, match="at commit"):
        check([{}, {}, {"error": "referential integrity violation"}], operations)


@pytest.mark.parametrize("error", ["try again", "cluster error", "timed out"])
def test_an_unknown_outcome_is_no_refusal(error: str) -> None:
    with pytest.raises(Unavailable):
        check([{}, {"error": error}], [{"op": "insert"}])
