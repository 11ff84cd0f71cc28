"""The operator's SSH key: what a cloud's own operator logs in to its servers with."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def operator_key(directory: Path) -> Path:
    """The private key `directory`/id_ed25519, made if it is not there; its public half is beside it, .pub.

    Several may ask at once: all get the same key.

    Raises:
        OSError: no room, or no right to write.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    private = directory / "id_ed25519"
    if not private.exists():
        key = Ed25519PrivateKey.generate()
        _write_first(
            private,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.OpenSSH,
                serialization.NoEncryption(),
            ),
        )
    # Of the key that is there: it may have been made by somebody else just now, or have lost its half.
    public = private.with_name(f"{private.name}.pub")
    if not public.exists():
        found = serialization.load_ssh_private_key(private.read_bytes(), password=None)
        line = found.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        _write_first(public, line + b" trunkline-operator\n")
    return private


def _write_first(path: Path, content: bytes) -> None:
    """Writes a file, complete or not at all, readable by its owner alone; one that is there stays."""
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}")
    draft = Path(name)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
