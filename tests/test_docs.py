"""Derived documents are what would be derived now; links lead somewhere; commands that are told exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_the_reference_is_that_of_the_classes() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "scripts" / "reference.py"), "--check"], timeout=60)
    assert done.returncode == 0, "write it anew: python scripts/reference.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text())
    lost = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert lost == []


def test_commands_that_the_readme_tells_are_there() -> None:
    from trunkline.cli import COMMANDS

    told = set(re.findall(r"^ +trunkline (\w+)", (ROOT / "README.md").read_text(), re.M))
    assert told
    assert told <= set(COMMANDS)
