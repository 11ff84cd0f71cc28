"""Fernet tokens: Keystone's format read and written by other code, keys rotated, nothing forged."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import struct
import uuid
from pathlib import Path
from typing import Any

import msgpack
import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.api.identity.keys import KeyRepository
from trunkline.api.identity.tokens import METHODS, Token, Tokens, isotime, new_audit_id
from trunkline.errors import Unauthenticated, Unavailable

USER, PROJECT, OTHER = (uuid.UUID(int=n, version=4).hex for n in (1, 2, 3))
AUDIT = base64.urlsafe_b64encode(bytes(range(16))).decode().rstrip("=")
EXPIRES = 1795233600.25
ISSUED = 1795230000.0


def token(**fields: Any) -> Token:
    return Token(
        **{
            "user_id": USER,
            "methods": ("password",),
            "audit_ids": (AUDIT,),
            "expires_at": EXPIRES,
            "issued_at": ISSUED,
        }
        | fields
    )


@pytest.fixture
def keys(tmp_path: Path) -> KeyRepository:
    repository = KeyRepository(tmp_path / "keys")
    repository.setup()
    return repository


def primary(path: Path) -> bytes:
    return (path / str(max(int(p.name) for p in path.iterdir()))).read_bytes()


def opened(text: str, key: bytes) -> tuple[int, list[Any]]:
    """A straightforward reading by the Fernet specification: (timestamp, payload)."""
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    secret = base64.urlsafe_b64decode(key)
    body, seal = raw[:-32], raw[-32:]
    assert hmac.new(secret[:16], body, hashlib.sha256).digest() == seal
    assert body[0] == 0x80
    decryptor = Cipher(algorithms.AES(secret[16:]), modes.CBC(body[9:25])).decryptor()
    padded = decryptor.update(body[25:]) + decryptor.finalize()
    return struct.unpack(">Q", body[1:9])[0], msgpack.unpackb(padded[: -padded[-1]])


PACKED = {name: [True, uuid.UUID(name).bytes] for name in (USER, PROJECT, OTHER)}
FORMATS = {
    "unscoped": ({}, [0, PACKED[USER], 2, EXPIRES, [bytes(range(16))]]),
    "domain": (
        {"domain_id": OTHER},
        [1, PACKED[USER], 2, PACKED[OTHER][1], EXPIRES, [bytes(range(16))]],
    ),
    "default domain": (
        {"domain_id": "default"},
        [1, PACKED[USER], 2, "default", EXPIRES, [bytes(range(16))]],
    ),
    "project": ({"project_id": PROJECT}, [2, PACKED[USER], 2, PACKED[PROJECT], EXPIRES, [bytes(range(16))]]),
    "project with an odd id": (
        {"project_id": "the-project"},
        [2, PACKED[USER], 2, [False, "the-project"], EXPIRES, [bytes(range(16))]],
    ),
    "trust": (
        {"project_id": PROJECT, "trust_id": OTHER},
        [3, PACKED[USER], 2, PACKED[PROJECT], EXPIRES, [bytes(range(16))], PACKED[OTHER][1]],
    ),
    "system": ({"system": "all"}, [8, PACKED[USER], 2, "all", EXPIRES, [bytes(range(16))]]),
    "application credential": (
        {"project_id": PROJECT, "application_credential_id": OTHER, "methods": ("application_credential",)},
        [9, PACKED[USER], 32, PACKED[PROJECT], EXPIRES, [bytes(range(16))], PACKED[OTHER]],
    ),
    "a chain": (
        {"methods": ("password", "token"), "audit_ids": (AUDIT, AUDIT)},
        [0, PACKED[USER], 6, EXPIRES, [bytes(range(16)), bytes(range(16))]],
    ),
}


@pytest.mark.parametrize(("fields", "payload"), FORMATS.values(), ids=FORMATS)
def test_what_is_written_is_keystones_payload(
    keys: KeyRepository, tmp_path: Path, fields: dict[str, Any], payload: list[Any]
) -> None:
    assert opened(Tokens(keys).write(token(**fields)), primary(tmp_path / "keys")) == (ISSUED, payload)


@pytest.mark.parametrize(("fields", "payload"), FORMATS.values(), ids=FORMATS)
def test_what_keystone_writes_is_read(
    keys: KeyRepository, tmp_path: Path, fields: dict[str, Any], payload: list[Any]
) -> None:
    sealed = Fernet(primary(tmp_path / "keys")).encrypt_at_time(msgpack.packb(payload), int(ISSUED))
    assert Tokens(keys).read(sealed.decode().rstrip("=")) == token(**fields)


@settings(max_examples=100, deadline=None)
@given(
    scope=st.sampled_from(("", "project_id", "domain_id", "system")),
    id=st.one_of(st.uuids().map(lambda u: u.hex), st.uuids().map(str), st.text(min_size=1, max_size=64)),
    user=st.one_of(st.uuids().map(lambda u: u.hex), st.text(max_size=64)),
    methods=st.sets(st.sampled_from(METHODS)),
)
def test_every_token_comes_back(
    tmp_path_factory: pytest.TempPathFactory, scope: str, id: str, user: str, methods: set[str]
) -> None:
    repository = KeyRepository(tmp_path_factory.getbasetemp() / "keys")
    repository.setup()
    ordered = tuple(m for m in METHODS if m in methods)
    one = token(user_id=user, methods=ordered, audit_ids=(new_audit_id(),), **({scope: id} if scope else {}))
    tokens = Tokens(repository)
    assert tokens.read(tokens.write(one)) == one


def test_a_changed_token_is_refused(keys: KeyRepository) -> None:
    tokens = Tokens(keys)
    text = tokens.write(token())
    for index in range(0, len(text) - 2, 7):
        other = "B" if text[index] == "A" else "A"
        with pytest.raises(Unauthenticated):
            tokens.read(text[:index] + other + text[index + 1 :])


@pytest.mark.parametrize("text", ["", "x", "gAAAAA", "é" * 20, "A" * 5000, "A" * 200, "\x00", "=" * 8])
def test_what_is_no_token_is_refused(keys: KeyRepository, text: str) -> None:
    with pytest.raises(Unauthenticated):
        Tokens(keys).read(text)


@pytest.mark.parametrize(
    "payload", [[], [0], 7, [99, [True, b"x"], 2, 1.0, []], [2, 1, 2, 3, 4, 5], {"a": 1}]
)
def test_a_sealed_payload_of_no_known_shape_is_refused(
    keys: KeyRepository, tmp_path: Path, payload: Any
) -> None:
    sealed = Fernet(primary(tmp_path / "keys")).encrypt(msgpack.packb(payload)).decode()
    with pytest.raises(Unauthenticated):
        Tokens(keys).read(sealed)


def test_tokens_of_another_cloud_are_refused(keys: KeyRepository, tmp_path: Path) -> None:
    other = KeyRepository(tmp_path / "other")
    other.setup()
    with pytest.raises(Unauthenticated):
        Tokens(keys).read(Tokens(other).write(token()))


# Keys.


def test_rotation_moves_staged_to_primary_and_keeps_three(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    keys = KeyRepository(path)
    keys.setup()
    assert keys.numbers() == [0, 1]
    staged = (path / "0").read_bytes()
    assert keys.rotate() == 2
    assert keys.numbers() == [0, 1, 2]
    assert (path / "2").read_bytes() == staged
    assert keys.rotate() == 3
    assert keys.numbers() == [0, 2, 3]


def test_a_token_outlives_one_rotation_and_not_three(keys: KeyRepository) -> None:
    tokens = Tokens(keys)
    text = tokens.write(token())
    keys.rotate()
    assert tokens.read(text).user_id == USER
    keys.rotate()
    keys.rotate()
    with pytest.raises(Unauthenticated):
        tokens.read(text)


def test_a_process_that_has_not_seen_the_rotation_reads_the_new_tokens(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    one = KeyRepository(path)
    one.setup()
    stale = KeyRepository(path)
    crypt = stale.crypt()
    one.rotate()
    payload = Tokens(one).write(token()).encode()
    assert crypt.decrypt(payload + b"=" * (-len(payload) % 4))


def test_keys_are_private_and_set_up_once(keys: KeyRepository, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    before = {p.name: p.read_bytes() for p in path.iterdir()}
    keys.setup()
    assert {p.name: p.read_bytes() for p in path.iterdir()} == before
    assert {p.stat().st_mode & 0o777 for p in path.iterdir()} == {0o600}
    assert path.stat().st_mode & 0o777 == 0o700


def test_without_keys_the_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="nowhere"):
        Tokens(KeyRepository(tmp_path / "nowhere")).write(token())
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0").write_text("no key")
    with pytest.raises(Unavailable, match="bad"):
        Tokens(KeyRepository(tmp_path / "bad")).write(token())


def test_times_are_in_the_form_that_clients_read() -> None:
    assert isotime(1795233600.25) == "2026-11-21T04:00:00.250000Z"


def test_a_rotation_is_remembered_by_the_staged_key(tmp_path: Path) -> None:
    keys = KeyRepository(tmp_path / "keys")
    keys.setup()
    os.utime(tmp_path / "keys" / "0", (1000, 1000))
    assert keys.rotated_at() == 1000
    keys.rotate()
    assert keys.rotated_at() > 1000
