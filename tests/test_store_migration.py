"""A store meets another version of the classes: what lacks is added, what would be lost is refused."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from store_toys import specs_of

from trunkline.resources import schema
from trunkline.resources.schema import Resource, resource, settable
from trunkline.store import CannotOpen, Store, migrate


def version(kind: str = "toy_car", base: type[Resource] = Resource, unique: Any = (), **fields: Any) -> Any:
    """One version of a class: fields as (type, default), or the type alone, or with flags."""
    annotations = [
        (name, Annotated[f[0], f[2] if len(f) > 2 else settable()], *([] if f[1] is ... else [f[1]]))
        for name, f in fields.items()
    ]
    cls = msgspec.defstruct(kind, annotations, bases=(base,), kw_only=True, module=__name__)
    resource(kind=kind, plural=f"{kind}s", service="toy", unique=unique)(cls)
    schema._SPECS.pop(kind)
    return cls


def opened(path: Path, *classes: Any) -> Store:
    return Store.open(path, specs=specs_of(*classes))


def stored(path: Path, cls: Any, *objects: Any) -> bytes:
    """Makes a store of one version, closes it, and returns the file's content."""
    store = opened(path, cls)
    store.write_sync(lambda tx: [tx.insert(obj) for obj in objects])
    store.close()
    return path.read_bytes()


@pytest.mark.parametrize(
    ("type", "default"),
    [
        (str, "it's %s :x"),
        (str, ""),
        (str | None, None),
        (int, 7),
        (int | None, 7),
        (bool, True),
        (bool, False),
        (bool | None, None),
        (float, 0.5),
        (list[str], ["a'b"]),
        (list[str] | None, None),
        (dict[str, int], {}),
    ],
)
def test_a_new_field_is_added_with_its_default(tmp_path: Path, type: Any, default: Any) -> None:
    path = tmp_path / "store"
    old = version(name=(str, ""))
    stored(path, old, old(id="1", name="a"))
    factory = msgspec.field(default_factory=lambda: default) if isinstance(default, list | dict) else default
    new = version(name=(str, ""), more=(type, factory))
    store = opened(path, new)
    store.write_sync(lambda tx: tx.insert(new(id="2", name="b")))
    with store.read() as r:
        assert r.get(new, "1") == new(id="1", name="a", more=default)
        assert [o.id for o in r.find(new, more=default)] == ["1", "2"]
    assert store.revision == 2
    store.close()


def test_new_kinds_indexes_and_uniqueness_are_added(tmp_path: Path) -> None:
    path = tmp_path / "store"
    old = version(name=(str, ""), owner=(str, ""))
    stored(path, old, old(id="1", name="a"))
    new = version(name=(str, "", settable(index=True)), owner=(str, ""), unique=(("name", "owner"),))
    other = version("toy_wheel", car=(str, "", settable(refers="toy_car")), unique=(("car",),))
    opened(path, new, other).close()
    fresh = tmp_path / "fresh"
    opened(fresh, new, other).close()
    assert layout(path) == layout(fresh)
    assert any("ix_toy_car_name" in line for line in layout(path))


def layout(path: Path) -> set[str]:
    database = sqlite3.connect(path)
    try:
        return {f"{name} {sql}" for name, sql in database.execute("SELECT name, sql FROM sqlite_master")}
    finally:
        database.close()


def test_a_field_may_become_one_that_can_be_empty(tmp_path: Path) -> None:
    path = tmp_path / "store"
    old = version(name=(str, ""), tags=(list[str], msgspec.field(default_factory=list)), unique=(("name",),))
    stored(path, old, old(id="1", name="a", tags=["x"]))
    new = version(name=(str | None, None), tags=(list[str] | None, None), unique=(("name",),))
    store = opened(path, new)
    store.write_sync(lambda tx: tx.insert(new(id="2")))
    with store.read() as r:
        assert r.get(new, "1") == new(id="1", name="a", tags=["x"])
        assert r.get(new, "2") == new(id="2")
    store.close()
    assert any("uq_toy_car_name" in line for line in layout(path))


BASE = {"name": (str, ""), "size": (int, 0)}


@pytest.mark.parametrize(
    ("fields", "unique", "problem"),
    [
        ({"name": (str, "")}, (), "toy_car.size is not known here"),
        ({**BASE, "size": (str, "")}, (), "the type of toy_car.size is BIGINT there and TEXT here"),
        ({**BASE, "more": (str, ...)}, (), "toy_car.more is new, and its field has no default"),
        ({**BASE}, (("name",),), "UNIQUE constraint failed: toy_car.name"),
    ],
)
def test_what_would_lose_something_is_refused_and_the_file_kept(
    tmp_path: Path, fields: Any, unique: Any, problem: str
) -> None:
    path = tmp_path / "store"
    old = version(**BASE)
    content = stored(path, old, old(id="1"), old(id="2"))
    with pytest.raises(CannotOpen, match=problem) as refusal:
        opened(path, version(unique=unique, **fields))
    assert "the file was not touched" in str(refusal.value)
    assert str(path) in str(refusal.value)
    assert path.read_bytes() == content
    opened(path, old).close()


def test_a_field_that_was_empty_may_not_become_required(tmp_path: Path) -> None:
    old = version(name=(str | None, None))
    stored(tmp_path / "store", old, old(id="1"))
    with pytest.raises(CannotOpen, match=r"toy_car\.name may be empty there and must not be here"):
        opened(tmp_path / "store", version(name=(str, "")))


def test_uniqueness_is_not_given_up_by_itself(tmp_path: Path) -> None:
    old = version(unique=(("name",),), **BASE)
    stored(tmp_path / "store", old)
    with pytest.raises(CannotOpen, match="the uniqueness uq_toy_car_name is no more"):
        opened(tmp_path / "store", version(**BASE))


def test_a_kind_that_is_not_known_any_more_is_refused(tmp_path: Path) -> None:
    car, wheel = version(**BASE), version("toy_wheel", **BASE)
    opened(tmp_path / "store", car, wheel).close()
    with pytest.raises(CannotOpen, match="the table toy_wheel is not known here"):
        opened(tmp_path / "store", car)


def test_an_index_that_nobody_wants_is_dropped(tmp_path: Path) -> None:
    opened(tmp_path / "store", version(name=(str, "", settable(index=True)))).close()
    opened(tmp_path / "store", version(name=(str, ""))).close()
    assert not any("ix_toy_car_name" in line for line in layout(tmp_path / "store"))


@pytest.mark.parametrize("attribute", ["FORMAT", "__version__"])
def test_a_file_of_a_newer_version_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, attribute: str
) -> None:
    path = tmp_path / "store"
    with monkeypatch.context() as patch:
        patch.setattr(migrate, attribute, {"FORMAT": 2, "__version__": "99.0"}[attribute])
        content = stored(path, version(**BASE, more=(str, "")))
    with pytest.raises(CannotOpen, match=r"was written by Trunkline .*, which is newer than this one"):
        opened(path, version(**BASE))
    assert path.read_bytes() == content


def test_a_newer_version_with_the_same_schema_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(migrate, "__version__", "99.0")
        stored(tmp_path / "store", version(**BASE))
    opened(tmp_path / "store", version(**BASE)).close()


def test_a_migration_that_is_cut_off_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store"
    old = version(**BASE)
    content = stored(path, old, old(id="1"))
    new = version(**BASE, more=(str, "x"), again=(str, "y"))
    apply, done = migrate._apply, []

    def cut_off(operations: Any, op: Any, defaults: Any) -> None:
        if done:
            raise KeyboardInterrupt
        apply(operations, op, defaults)
        done.append(op)

    with monkeypatch.context() as patch:
        patch.setattr(migrate, "_apply", cut_off)
        with pytest.raises(KeyboardInterrupt):
            opened(path, new)
    assert path.read_bytes() == content
    store = opened(path, new)
    with store.read() as r:
        assert r.get(new, "1") == new(id="1", more="x", again="y")
    store.close()


def test_the_usual_start_does_not_import_alembic(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from trunkline.store import Store\n"
        "for _ in range(2): Store.open(Path(sys.argv[1]), specs=[]).close()\n"
        "assert 'alembic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "store"], check=True, timeout=60)
