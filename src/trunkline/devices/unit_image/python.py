"""An interpreter and a program of modules, for where there is no Python: the parts of this process's own."""

from __future__ import annotations

import importlib.util
import io
import json
import marshal
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from trunkline.devices.unit_image.elf import loaded
from trunkline.devices.units import python_environment
from trunkline.errors import Unavailable

#: Says, as JSON, which modules an interpreter has that has imported what a unit may, and which
#: version that makes, and where the library is that none of them is linked with.
_ASK = """
import ctypes, importlib, json, pkgutil, sys
import encodings.ascii, encodings.idna, encodings.latin_1, shutil, traceback, unicodedata, zlib
import trunkline.units as units
for found in pkgutil.iter_modules(units.__path__):
    importlib.import_module(f"trunkline.units.{found.name}")
ctypes.CDLL("libbpf.so.1")
mapped = (line.split(maxsplit=5)[5].strip() for line in open("/proc/self/maps") if "/" in line)
modules = {
    name: (module.__file__, hasattr(module, "__path__"))
    for name, module in sys.modules.items()
    if name != "__main__" and getattr(module, "__file__", None)
}
print(json.dumps([modules, units.version.version(), next(file for file in mapped if "/libbpf.so.1" in file)]))
"""
#: Parts of the standard library that no unit has a use for.
_LEFT_OUT = frozenset(
    (
        *("__pycache__", "dist-packages", "site-packages", "test", "tests", "unittest"),
        *("distutils", "ensurepip", "lib2to3", "venv", "idlelib", "pydoc_data", "tkinter", "turtledemo"),
        *("curses", "dbm", "multiprocessing", "sqlite3", "wsgiref", "xml", "xmlrpc"),
    )
)
_NO_SOURCE = importlib.util.MAGIC_NUMBER + bytes(12)


@dataclass(frozen=True)
class Module:
    """A module of a program."""

    name: str
    file: Path
    package: bool

    @property
    def place(self) -> str:
        """Where it is below a folder of modules; one in C keeps its name."""
        base = self.name.replace(".", "/")
        if self.file.suffix == ".so":
            return f"{base.rpartition('/')[0]}/{self.file.name}".lstrip("/")
        return f"{base}/__init__.pyc" if self.package else f"{base}.pyc"

    def content(self) -> bytes:
        """In C it is what it is; else it is compiled."""
        return (
            loaded(self.file.read_bytes()) if self.file.suffix == ".so" else compiled(self.file, self.place)
        )


@dataclass(frozen=True)
class Program:
    """All that a unit's program consists of."""

    interpreter: Path
    modules: tuple[Module, ...]
    #: The library that BPF programs are loaded by.
    libbpf: Path

    #: What the unit says that it is.
    told_version: str

    @property
    def binaries(self) -> tuple[Path, ...]:
        """What is linked with libraries, and not compiled from Python."""
        modules = (module.file for module in self.modules if module.file.suffix == ".so")
        return (self.interpreter, self.libbpf, *modules)

    @property
    def version(self) -> str:
        """As folders of modules are named: python3.11."""
        return f"python{sys.version_info.major}.{sys.version_info.minor}"


def find() -> Program:
    """What this interpreter needs to be a unit.

    Raises:
        Unavailable: it cannot import it all; with its last words.
    """
    done = subprocess.run(
        [sys.executable, "-P", "-c", _ASK],
        env={"PATH": "/usr/bin:/bin", **python_environment()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise Unavailable(f"A unit's program cannot be looked at: {done.stderr.strip()[-300:]}")
    told, version, libbpf = json.loads(done.stdout)
    modules = tuple(Module(name, Path(file), package) for name, (file, package) in sorted(told.items()))
    return Program(Path(sys.executable).resolve(), modules, Path(libbpf), version)


def rest(program: Program) -> tuple[dict[str, bytes], bytes]:
    """The standard library's other modules, compiled: by place, and as an archive (PEP 273).

    Where the program has a part of a package, the other parts have places, too, for a package is where its
    first module was found.
    """
    there, base = {module.place for module in program.modules}, Path(sysconfig.get_path("stdlib"))
    packages = {module.place.partition("/")[0] for module in program.modules if module.package}
    beside, out = {}, io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in _sources(base):
            place = f"{file.relative_to(base).with_suffix('.pyc')}"
            if place in there:
                continue
            if place.partition("/")[0] in packages:
                beside[place] = compiled(file, place)
            else:
                archive.writestr(zipfile.ZipInfo(place), compiled(file, place), zipfile.ZIP_DEFLATED)
    return beside, out.getvalue()


def _sources(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir()):
        if entry.name in _LEFT_OUT or entry.name.startswith("config-"):
            continue
        if entry.is_dir():
            yield from _sources(entry)
        elif entry.suffix == ".py":
            yield entry


def compiled(file: Path, name: str) -> bytes:
    """A module that needs no source (PEP 3147); tracebacks have `name`."""
    code = compile(file.read_bytes(), name.removesuffix("c"), "exec", dont_inherit=True)
    return _NO_SOURCE + marshal.dumps(code)
