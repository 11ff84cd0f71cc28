"""Ansible with its collection openstack.cloud, in a virtual environment of its own beside the checkout.

The collection comes in the package `ansible` (12.3.0), which has a hundred others: of its 54 MB only this one
is unpacked. It takes three seconds, and is done once.
"""

from __future__ import annotations

import fcntl
import subprocess
import tempfile
import venv
import zipfile
from pathlib import Path

_REQUIREMENTS = Path(__file__).with_name("clients") / "requirements.txt"
_HOME = Path(__file__).resolve().parent.parent / ".venv-ansible"
_PACKAGE = "ansible==12.3.0"
_COLLECTION = "ansible_collections/openstack/cloud/"


def environment() -> Path:
    """The virtual environment: ``bin`` has the commands, ``collections`` the collection."""
    _HOME.mkdir(exist_ok=True)
    wanted = f"{_PACKAGE}\n{_REQUIREMENTS.read_text()}"
    with (_HOME / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = _HOME / "requirements"
        if not stamp.exists() or stamp.read_text() != wanted:
            _install()
            stamp.write_text(wanted)
    return _HOME


def _install() -> None:
    venv.create(_HOME, with_pip=True)
    python = str(_HOME / "bin" / "python")
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "uv"], check=True)
    uv = [str(_HOME / "bin" / "uv"), "pip", "install", "--quiet", "--python", python]
    subprocess.run([*uv, "--compile-bytecode", "-r", str(_REQUIREMENTS)], check=True)
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*pip, "download", "--no-deps", "--dest", folder, _PACKAGE], check=True)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as file:
            names = [name for name in file.namelist() if name.startswith(_COLLECTION)]
            file.extractall(_HOME / "collections", names)
