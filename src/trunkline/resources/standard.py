"""What most resources carry beside their own fields."""

from __future__ import annotations

from typing import Annotated

from trunkline.resources.schema import Check, Resource, computed, fixed, settable
from trunkline.resources.types import Description, Id

#: How many tags one resource has: they are in memory wherever it is, and in each list that shows it.
MOST_TAGS = 128


def clean_tags(values: list[str]) -> list[str]:
    """Tags of 1 to 255 characters, not too many; a repeated one is dropped."""
    for tag in values:
        clean_tag(tag)
    tags = list(dict.fromkeys(values))
    if len(tags) > MOST_TAGS:
        raise ValueError(f"a resource has at most {MOST_TAGS} tags. Remove some.")
    return tags


def clean_tag(tag: str) -> str:
    """One tag."""
    if not 1 <= len(tag) <= 255:
        raise ValueError("a tag has 1 to 255 characters.")
    return tag


class Standard(Resource, kw_only=True):
    """A resource that a project owns, with description, tags, revision and times."""

    #: The project that owns it.
    project_id: Annotated[Id, fixed(index=True)] = ""
    #: A text for people.
    description: Annotated[Description, settable(alias="standard-attr-description")] = ""
    #: Labels to find it by.
    tags: Annotated[list[str], fixed(filter=False, alias="standard-attr-tag"), Check(clean_tags)] = []
    #: Counts its changes.
    revision_number: Annotated[int, computed(alias="standard-attr-revisions")] = 0
    #: When it was created, UTC.
    created_at: Annotated[str, computed(alias="standard-attr-timestamp")] = ""
    #: When it was last changed, UTC.
    updated_at: Annotated[str, computed(alias="standard-attr-timestamp")] = ""
