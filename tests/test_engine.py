"""The stages of a request, on a toy resource and a real store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from trunkline.api.context import Context
from trunkline.api.engine import Call, Engine, Stages
from trunkline.errors import BadField, Conflict, Forbidden, NotFound, OverQuota, Stale
from trunkline.resources.schema import Resource, computed, fixed, hidden, resource, settable
from trunkline.store import Store


@resource(kind="toy_engine", plural="toy_engines", service="toy", quota=3)
class Toy(Resource):
    """A resource that a project owns."""

    name: Annotated[str, settable()] = ""
    project_id: Annotated[str, fixed()] = ""
    size: Annotated[int | None, settable()] = None
    public: Annotated[bool, settable(guarded_write=True)] = False
    place: Annotated[str, computed(guarded_read=True)] = ""
    secret: Annotated[str, hidden()] = "x"
    parent: Annotated[str | None, fixed(refers="toy_engine")] = None
    revision_number: Annotated[int, computed()] = 0


class OnlyAdmins:
    """Members do all to their own but what is guarded; admins do all."""

    def allows(self, name: str, credentials: Context, target: Mapping[str, Any]) -> bool:
        return credentials.is_admin or (":" not in name and target["project_id"] == credentials.project_id)


def place(call: Call, new: Toy, given: frozenset[str]) -> Toy:
    if new.name == "refused":
        raise Conflict("This name is refused.")
    call.tx.claim("toy_engine.name", new.name or new.id, new.id)
    return msgspec.structs.replace(new, place=f"at {new.project_id}")


ANNA = Context(user_id="anna", project_id="a")
BERT = Context(user_id="bert", project_id="b")
ROOT = Context(user_id="root", project_id="r", is_admin=True)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    store = Store.open(tmp_path / "store.sqlite")
    yield Engine(store, OnlyAdmins(), {"toy_engine": Stages(create=place)})
    store.close()


def run(coroutine: Any) -> Any:
    return asyncio.run(coroutine)


def create(engine: Engine, who: Context, **body: Any) -> Any:
    return run(engine.create(who, Toy, body))


def names(engine: Engine, who: Context, *pairs: tuple[str, str]) -> list[str]:
    return [item["name"] for item in run(engine.page(who, Toy, engine.query(Toy, pairs))).items]


def test_a_resource_is_created_shown_changed_and_deleted(engine: Engine) -> None:
    made = create(engine, ANNA, name="one")
    assert made["project_id"] == "a"
    assert run(engine.show(ANNA, Toy, made["id"])) == made
    changed = run(engine.update(ANNA, Toy, made["id"], {"name": "two"}))
    assert (changed["name"], changed["revision_number"]) == ("two", made["revision_number"] + 1)
    run(engine.delete(ANNA, Toy, made["id"]))
    with pytest.raises(NotFound):
        run(engine.show(ANNA, Toy, made["id"]))


def test_an_update_that_changes_nothing_spends_no_revision(engine: Engine) -> None:
    made = create(engine, ANNA, name="one")
    before = engine.store.revision
    assert run(engine.update(ANNA, Toy, made["id"], {"name": "one"})) == made
    assert engine.store.revision == before


def test_what_another_project_owns_is_not_there(engine: Engine) -> None:
    made = create(engine, ANNA, name="one")
    for attempt in (
        engine.show(BERT, Toy, made["id"]),
        engine.update(BERT, Toy, made["id"], {"name": "mine"}),
        engine.delete(BERT, Toy, made["id"]),
        engine.create(BERT, Toy, {"parent": made["id"]}),
    ):
        with pytest.raises(NotFound):
            run(attempt)
    assert names(engine, BERT) == []
    assert names(engine, ROOT) == ["one"]


def test_a_guarded_field_is_neither_seen_nor_set_by_those_who_may_not(engine: Engine) -> None:
    made = create(engine, ANNA, name="one")
    assert "place" not in made
    assert "secret" not in made
    assert run(engine.show(ROOT, Toy, made["id"]))["place"] == "at a"
    with pytest.raises(Forbidden):
        run(engine.update(ANNA, Toy, made["id"], {"public": True}))
    with pytest.raises(Forbidden):
        create(engine, ANNA, public=False)
    with pytest.raises(Forbidden):
        create(engine, ANNA, project_id="b")


def test_several_are_created_or_none(engine: Engine) -> None:
    with pytest.raises(Conflict):
        run(engine.create_many(ANNA, Toy, [{"name": "one"}, {"name": "refused"}]))
    assert names(engine, ANNA) == []
    with engine.store.read() as reader:
        assert reader.claimed("toy_engine.name") == []


def test_a_quota_is_kept_among_concurrent_requests(engine: Engine) -> None:
    async def storm() -> list[Any]:
        return await asyncio.gather(
            *(engine.create(ANNA, Toy, {"name": str(n)}) for n in range(10)), return_exceptions=True
        )

    results = run(storm())
    assert sum(isinstance(r, OverQuota) for r in results) == 7
    assert len(names(engine, ANNA)) == 3


def test_a_stale_revision_is_refused(engine: Engine) -> None:
    made = create(engine, ANNA, name="one")
    with pytest.raises(Stale):
        run(engine.update(ANNA, Toy, made["id"], {"name": "two"}, if_revision=made["revision_number"] + 1))


def test_lists_are_filtered(engine: Engine) -> None:
    for name, size in (("a", 1), ("b", 2), ("c", None)):
        create(engine, ANNA, name=name, size=size)
    assert sorted(names(engine, ANNA, ("name", "a"), ("name", "c"))) == ["a", "c"]
    assert names(engine, ANNA, ("size", "2")) == ["b"]
    assert names(engine, ANNA, ("size", "2"), ("name", "a")) == []
    assert names(engine, ANNA, ("name_substr", "b")) == ["b"]
    assert names(engine, ANNA, ("public", "true")) == []
    page = run(engine.page(ANNA, Toy, engine.query(Toy, [("fields", "name"), ("name", "a")])))
    assert page.items == [{"name": "a"}]


@pytest.mark.parametrize(
    ("pair", "field"),
    [
        (("colour", "red"), "colour"),
        (("secret", "x"), "secret"),
        (("size", "big"), "size"),
        (("size", "9" * 30), "size"),
        (("public", "maybe"), "public"),
        (("limit", "-1"), "limit"),
        (("marker", "nobody"), "marker"),
        (("sort_key", "secret"), "sort_key"),
        (("name", "a\x00"), "name"),
    ],
)
def test_a_wrong_parameter_is_named(engine: Engine, pair: tuple[str, str], field: str) -> None:
    with pytest.raises(BadField) as refused:
        names(engine, ANNA, pair)
    assert refused.value.field == field


@pytest.mark.parametrize("key", ["name", "size"])
@pytest.mark.parametrize("direction", ["asc", "desc"])
def test_pages_cover_the_list_once_in_both_directions(engine: Engine, key: str, direction: str) -> None:
    for name, size in (("b", 2), ("a", None), ("c", 2), ("e", 1), ("d", None)):
        create(engine, ROOT, name=name, size=size, project_id=name)
    sort = [("sort_key", key), ("sort_dir", direction)]
    whole = names(engine, ROOT, *sort)
    assert sorted(whole) == ["a", "b", "c", "d", "e"]

    def walk(*more: tuple[str, str]) -> list[list[str]]:
        pages, marker = [], None
        while True:
            pairs = [*sort, ("limit", "2"), *more, *([("marker", marker)] if marker else [])]
            page = run(engine.page(ROOT, Toy, engine.query(Toy, pairs)))
            pages.append([item["name"] for item in page.items])
            marker = page.first if more else page.last
            if not page.more:
                return pages

    assert [n for page in walk() for n in page] == whole
    assert [n for page in reversed(walk(("page_reverse", "true"))) for n in page] == whole
