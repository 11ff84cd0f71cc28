"""Who imports whom is what the table in docs/architecture.md says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent.parent
_SOURCE = _ROOT / "src" / "trunkline"
_ROW = re.compile(r"^\| `(\w+)` \| (.+) \|$", re.MULTILINE)


def allowed() -> dict[str, set[str]]:
    """Package to the packages and modules of ours that it may import, by the table."""
    text = (_ROOT / "docs" / "architecture.md").read_text()
    section = text.split("## Who may import whom")[1].split("\n## ")[0]
    rows = dict(_ROW.findall(section))
    table = {}
    for package, words in rows.items():
        named = set(re.findall(r"`([\w.]+)`", words))
        if words == "everything":
            table[package] = set(rows)
        elif words.startswith("all but"):
            table[package] = set(rows) - named
        else:
            table[package] = named
    return table


def imports(file: Path) -> set[str]:
    """The modules of ours that a file imports, in full, without "trunkline."."""
    package = ["trunkline", *file.relative_to(_SOURCE).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("trunkline.") for name in found if name.startswith("trunkline.")}


def is_allowed(package: str, imported: str, table: dict[str, set[str]]) -> bool:
    if imported.partition(".")[0] == package or imported == "__version__":
        return True
    return any(imported == name or imported.startswith(f"{name}.") for name in table[package])


def packages() -> list[str]:
    found = (path for path in _SOURCE.iterdir() if not path.name.startswith("_"))
    return sorted(path.stem for path in found if path.is_dir() or path.suffix == ".py")


@pytest.mark.parametrize("package", packages())
def test_a_package_imports_only_what_the_table_grants(package: str) -> None:
    table = allowed()
    assert package in table, f"{package} has no row in docs/architecture.md"
    place = _SOURCE / package
    files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    wrong = [
        f"{file.relative_to(_ROOT)}: {name}"
        for file in files
        for name in sorted(imports(file))
        if not is_allowed(package, name, table)
    ]
    assert not wrong


def test_an_import_that_reaches_up_is_seen() -> None:
    table = allowed()
    assert not is_allowed("devices", "control.loop", table)
    assert not is_allowed("backends", "compiler.slices.HostSlice", table)
    assert is_allowed("backends", "compiler.logical.LogicalNetwork", table)
    assert not is_allowed("control", "agent.config", table)
    assert is_allowed("cli", "agent.config", table)
