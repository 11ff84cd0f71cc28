"""Definitions of metadata: kept, shown to those who may see them, changed by operators."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compute_lab import ROOT, Lab

NAMESPACES = "/image/v2/metadefs/namespaces"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


def namespace(lab: Lab, name: str = "ns", **more: Any) -> str:
    body = {"namespace": name, "visibility": "public", **more}
    assert lab.ask("POST", NAMESPACES, body, by=ROOT)["namespace"] == name
    return f"{NAMESPACES}/{name}"


def test_a_namespace_is_made_shown_changed_and_deleted(lab: Lab) -> None:
    path = namespace(lab, description="d")
    lab.ask("POST", NAMESPACES, {"namespace": "ns"}, by=ROOT, status=409)
    lab.ask("POST", NAMESPACES, {"namespace": "other"}, status=403)
    assert lab.ask("GET", path)["description"] == "d"
    assert [each["namespace"] for each in lab.ask("GET", NAMESPACES)["namespaces"]] == ["ns"]
    lab.ask("PUT", path, {"namespace": "ns", "visibility": "private", "protected": True}, by=ROOT)
    lab.ask("GET", path, status=404)
    lab.ask("DELETE", path, by=ROOT, status=403)
    lab.ask("PUT", path, {"namespace": "ns"}, by=ROOT)
    lab.ask("DELETE", path, by=ROOT, status=204)
    lab.ask("GET", path, by=ROOT, status=404)


def test_properties_and_objects_are_kept(lab: Lab) -> None:
    path = namespace(lab)
    first = {"name": "cores", "title": "Cores", "type": "integer", "minimum": 1}
    assert lab.ask("POST", f"{path}/properties", first, by=ROOT)["minimum"] == 1
    lab.ask("POST", f"{path}/properties", first, by=ROOT, status=409)
    lab.ask("POST", f"{path}/properties", {"name": "x", "title": "X", "type": "?"}, by=ROOT, status=400)
    lab.ask("POST", f"{path}/properties", first, status=403)
    lab.ask("PUT", f"{path}/properties/cores", {**first, "name": "cpus", "title": "CPUs"}, by=ROOT)
    assert lab.ask("GET", f"{path}/properties")["properties"]["cpus"]["title"] == "CPUs"
    lab.ask("GET", f"{path}/properties/cores", status=404)
    lab.ask("POST", f"{path}/objects", {"name": "o", "properties": {"a": {}}}, by=ROOT, status=400)
    thing = {"name": "o", "properties": {"a": {"title": "A", "type": "string"}}}
    lab.ask("POST", f"{path}/objects", thing, by=ROOT)
    assert [each["name"] for each in lab.ask("GET", f"{path}/objects")["objects"]] == ["o"]
    whole = lab.ask("GET", path)
    assert (list(whole["properties"]), whole["objects"][0]["name"]) == (["cpus"], "o")
    lab.ask("DELETE", f"{path}/properties/cpus", by=ROOT, status=204)


def test_tags_and_resource_types_are_kept(lab: Lab) -> None:
    path = namespace(lab)
    lab.ask("POST", f"{path}/tags", {"tags": [{"name": "a"}, {"name": "b"}]}, by=ROOT, status=201)
    lab.ask("POST", f"{path}/tags/c", by=ROOT, status=201)
    lab.ask("PUT", f"{path}/tags/c", {"name": "d"}, by=ROOT)
    assert [tag["name"] for tag in lab.ask("GET", f"{path}/tags")["tags"]] == ["a", "b", "d"]
    lab.ask("DELETE", f"{path}/tags", by=ROOT, status=204)
    assert lab.ask("GET", f"{path}/tags")["tags"] == []
    kind = lab.ask("GET", "/image/v2/metadefs/resource_types")["resource_types"][0]["name"]
    lab.ask("POST", f"{path}/resource_types", {"name": kind, "prefix": "hw_"}, by=ROOT, status=201)
    assert lab.ask("GET", f"{path}/resource_types")["resource_type_associations"][0]["prefix"] == "hw_"
    lab.ask("DELETE", f"{path}/resource_types/{kind}", by=ROOT, status=204)
    lab.ask("DELETE", f"{path}/resource_types/{kind}", by=ROOT, status=404)


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "namespace"),
        ({"namespace": "a/b"}, "namespace"),
        ({"namespace": "x" * 81}, "namespace"),
        ({"namespace": "n", "visibility": "shared"}, "visibility"),
        ({"namespace": "n", "protected": "yes"}, "protected"),
        ({"namespace": "n", "bogus": 1}, "bogus"),
    ],
)
def test_bad_namespaces_are_refused_by_name(lab: Lab, body: dict[str, Any], named: str) -> None:
    assert named in lab.ask("POST", NAMESPACES, body, by=ROOT, status=400)["error"]["message"]


def test_schemas_are_served(lab: Lab) -> None:
    for path, name in (("namespace", "namespace"), ("properties", "properties"), ("tags", "tags")):
        assert lab.ask("GET", f"/image/v2/schemas/metadefs/{path}")["name"] == name
    types = lab.ask("GET", "/image/v2/schemas/metadefs/resource_types")
    assert types["name"] == "resource_type_associations"
    lab.ask("GET", "/image/v2/schemas/metadefs/nothing", status=404)


def test_a_namespace_is_made_with_all_that_it_holds(lab: Lab) -> None:
    held = {
        "resource_type_associations": [{"name": "OS::Nova::Flavor"}],
        "properties": {"cores": {"title": "Cores", "type": "integer"}},
        "objects": [{"name": "o"}],
        "tags": [{"name": "t"}],
    }
    whole = lab.ask("GET", namespace(lab, **held))
    assert [each["name"] for each in whole["resource_type_associations"]] == ["OS::Nova::Flavor"]
    assert whole["properties"]["cores"]["title"] == "Cores"
    assert [whole[part][0]["name"] for part in ("objects", "tags")] == ["o", "t"]
