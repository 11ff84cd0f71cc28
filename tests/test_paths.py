"""Paths lead to the endpoints that are declared for them."""

from __future__ import annotations

import pytest

from trunkline.api.http import Endpoint, Reply, Request
from trunkline.api.paths import Paths


async def nothing(request: Request) -> Reply:
    return Reply()


def endpoint(path: str, method: str = "GET") -> Endpoint:
    return Endpoint(method, path, nothing)


DECLARED = [
    endpoint(path)
    for path in (
        "/",
        "/v2/",
        "/ports",
        "/ports/{id}",
        "/ports/detail",
        "/ports/{port}/tags",
        "/ports/{id}/tags/{tag}",
    )
]
PATHS = Paths(DECLARED)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("", [("/", {})]),
        ("/", [("/", {})]),
        ("/v2", []),
        ("/v2/", [("/v2/", {})]),
        ("/ports", [("/ports", {})]),
        ("/ports/", []),
        ("/ports/7", [("/ports/{id}", {"id": "7"})]),
        ("/ports/detail", [("/ports/detail", {}), ("/ports/{id}", {"id": "detail"})]),
        ("/ports/7/tags", [("/ports/{port}/tags", {"port": "7"})]),
        ("/ports/7/tags/a\nb", [("/ports/{id}/tags/{tag}", {"id": "7", "tag": "a\nb"})]),
        ("/ports//tags", []),
        ("/port", []),
    ],
)
def test_a_path_means_what_is_declared_the_most_exact_first(
    path: str, found: list[tuple[str, dict[str, str]]]
) -> None:
    assert [(methods["GET"].path, values) for methods, values in PATHS.find(path)] == found


def test_what_is_declared_twice_is_refused() -> None:
    Paths([*DECLARED, endpoint("/ports", "POST")])
    with pytest.raises(AssertionError, match="GET /ports is declared twice"):
        Paths([*DECLARED, endpoint("/ports")])
