"""Debian packages as files: chosen, fetched and unpacked beside the machine's own, never installed.

apt verifies what it fetches against the signed lists of the machine's archive.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from trunkline.errors import Unavailable

_ENVIRONMENT = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}


class BuildFailed(Unavailable):
    """The image cannot be built here; the message says what to do."""


def run(argv: Sequence[str], *, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Runs a tool of the build to its end; returns what it printed.

    Raises:
        BuildFailed: it is not installed, or failed: with the last of its words.
    """
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env={**_ENVIRONMENT, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=600,
        )
    except FileNotFoundError as error:
        raise BuildFailed(
            f"The tiny image cannot be built: {argv[0]} is not installed; "
            "`trunkline doctor` names its package."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise BuildFailed(f"The tiny image cannot be built: {argv[0]} did not end within 600 s.") from error
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip())[-500:]
        raise BuildFailed(f"The tiny image cannot be built: {' '.join(argv[:3])} failed: {words}")
    return done.stdout


def candidates(names: Sequence[str]) -> dict[str, str]:
    """The version of each package that apt would install.

    Raises:
        BuildFailed: apt knows none of a package.
    """
    found = {
        fields["Package"]: fields["Version"]
        for fields in _stanzas(run(["apt-cache", "--no-all-versions", "show", *names]))
    }
    if missing := [name for name in names if name not in found]:
        raise BuildFailed(
            f"The tiny image cannot be built: apt knows no package {', '.join(missing)}. "
            "Run `apt-get update` with Debian's main archive in /etc/apt/sources.list."
        )
    return {name: found[name] for name in names}


def lists() -> str:
    """What tells one state of apt's lists from another: while it is the same, so is every candidate."""
    digest = hashlib.sha256()
    for folder in (Path("/var/lib/apt/lists"), Path("/etc/apt"), Path("/etc/apt/preferences.d")):
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name) if folder.is_dir() else ():
            status = entry.stat()
            digest.update(f"{entry.path} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def dependency(package: str, pattern: str) -> str:
    """The first package whose whole name matches `pattern` among those that `package` depends on."""
    for fields in _stanzas(run(["apt-cache", "--no-all-versions", "show", package])):
        for name in re.findall(r"[a-z0-9][a-z0-9+.-]+", fields.get("Depends", "")):
            if re.fullmatch(pattern, name):
                return str(name)
    raise BuildFailed(
        f"The tiny image cannot be built: {package} depends on no {pattern}. Run `apt-get update`."
    )


def fetch(versions: dict[str, str], folder: Path) -> list[Path]:
    """Downloads the packages that `folder` does not hold yet; returns their files.

    Raises:
        BuildFailed: the archive cannot be reached, or has them no more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [name for name, version in versions.items() if not _held(folder, name, version)]
    if missing:
        try:
            run(["apt-get", "download", "-q", *(f"{name}={versions[name]}" for name in missing)], cwd=folder)
        except BuildFailed as failure:
            raise BuildFailed(
                f"{failure.message}\nIs the Debian archive reachable? `apt-get update` refreshes its lists."
            ) from failure
    files = []
    for name, version in versions.items():
        held = _held(folder, name, version)
        if held is None:
            raise BuildFailed(f"The tiny image cannot be built: apt-get downloaded no {name} {version}.")
        files.append(held)
    return files


def unpack(files: Iterable[Path], folder: Path) -> None:
    """Unpacks packages over each other into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        run(["dpkg-deb", "--extract", str(file), str(folder)])


def _held(folder: Path, name: str, version: str) -> Path | None:
    # apt writes the colon of an epoch as %3a.
    return next(iter(folder.glob(f"{name}_{version.replace(':', '%3a')}_*.deb")), None)


def _stanzas(text: str) -> list[dict[str, str]]:
    return [
        dict(re.findall(r"^([A-Za-z-]+): (.*)$", stanza, re.MULTILINE))
        for stanza in text.split("\n\n")
        if stanza.strip()
    ]
