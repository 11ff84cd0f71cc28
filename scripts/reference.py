"""Writes docs/reference.md from the resource classes: every resource, every field.

python scripts/reference.py            # writes it
python scripts/reference.py --check    # exit status 1 if it is not what would be written
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

import trunkline.api.wiring  # noqa: F401  (declares every resource)
from trunkline.resources.schema import FieldSpec, Spec, specs

FILE = Path(__file__).resolve().parent.parent / "docs" / "reference.md"
SERVICES = {
    "identity": "Identity",
    "network": "Network",
    "compute": "Compute",
    "image": "Image",
    "appliance": "Appliance",
    "loadbalancer": "Load balancer",
}
HEAD = """\
# API reference

Derived from the resource classes by `scripts/reference.py`; the tests compare. The running cloud serves the
same as OpenAPI documents: `/identity/openapi.json`, `/network/openapi.json`, `/compute/openapi.json`,
`/image/openapi.json`, `/appliance/openapi.json`, `/load-balancer/openapi.json`. The Compute and Image APIs
show some of these fields under other names, as their clients expect.

*c*: given on create. **c**: must be. *u*: changed by an update. *admin*: only for those whom the access rule
of the field allows. Others are filled in by the cloud. *seen*: what was observed.
"""


def type_of(field: FieldSpec) -> str:
    """The JSON type of a field, for people."""
    schema = msgspec.json.schema(field.annotation)
    while "$ref" in schema:
        schema = {**schema["$defs"][schema["$ref"].rsplit("/", 1)[-1]]}
    options = schema.get("anyOf", [schema])
    names = []
    for option in options:
        name = " or ".join(map(repr, option["enum"])) if "enum" in option else option.get("type", "object")
        names.append("number" if name == "number" else str(name))
    return " or ".join(dict.fromkeys(names)).replace("|", "\\|")


def flags_of(field: FieldSpec) -> str:
    """The marks of a field; see `HEAD`."""
    flags = field.flags
    marks = []
    if flags.create:
        marks.append("**c**" if flags.required else "*c*")
    if flags.update:
        marks.append("*u*")
    if flags.guarded_write or flags.guarded_read:
        marks.append("*admin*")
    if flags.observed:
        marks.append("*seen*")
    return " ".join(marks)


def section(spec: Spec) -> Iterator[str]:
    """One resource."""
    yield f"### {spec.kind}\n"
    yield f"{spec.doc.splitlines()[0]}" + (f" Quota: {spec.quota}." if spec.quota is not None else "") + "\n"
    yield "| field | type | | |"
    yield "| --- | --- | --- | --- |"
    for field in spec.fields.values():
        if field.flags.shown:
            text = spec.field_docs.get(field.name, "").replace("|", "\\|")
            yield f"| `{field.wire}` | {type_of(field)} | {flags_of(field)} | {text} |"
    yield ""


def whole() -> str:
    """The whole document."""
    lines = [HEAD]
    for service, title in SERVICES.items():
        lines.append(f"## {title}\n")
        for spec in sorted(specs().values(), key=lambda s: s.kind):
            if spec.service == service:
                lines += section(spec)
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """The command; see the module."""
    text = whole()
    if "--check" in sys.argv:
        return int(not FILE.exists() or FILE.read_text() != text)
    FILE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
