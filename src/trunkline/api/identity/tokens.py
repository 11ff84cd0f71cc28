"""Fernet tokens in Keystone's format: what a token says, as text that only this cloud can make.

A token is the URL-safe base64, without padding, of a Fernet message (github.com/fernet/spec) whose
plaintext is a msgpack array. Its first item is the version of the payload:

    0  unscoped      user, methods, expires, audits
    1  domain        user, methods, domain, expires, audits
    2  project       user, methods, project, expires, audits
    3  trust         user, methods, project, expires, audits, trust
    8  system        user, methods, system, expires, audits
    9  credential    user, methods, project, expires, audits, application credential

An id is ``[true, 16 bytes]`` where it is a UUID in hexadecimal, else ``[false, text]``; the domain of
version 1 and the trust of version 3 stand without that pair. `methods` is a sum of powers of two,
`expires` a float of seconds since 1970, an audit id 16 bytes. When the token was issued is the
timestamp of the Fernet message, in whole seconds. Source: Keystone, keystone/token/token_formatters.py.
"""

from __future__ import annotations

import base64
import binascii
import struct
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from cryptography.fernet import InvalidToken, MultiFernet

from trunkline.api.identity.keys import KeyRepository
from trunkline.errors import Unauthenticated

#: The order of Keystone's default `[auth] methods`, of which a token holds a bit mask.
METHODS = ("external", "password", "token", "oauth1", "mapped", "application_credential")
#: No token of ours is longer; anything longer is not looked at.
MAX_LENGTH = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """What a token says. At most one of project, domain and system is set."""

    user_id: str
    #: How the user proved who it is: names of `METHODS`.
    methods: tuple[str, ...]
    #: The token's own audit id; behind it, that of the first token of its chain.
    audit_ids: tuple[str, ...]
    #: Seconds since 1970.
    expires_at: float
    issued_at: float
    project_id: str = ""
    domain_id: str = ""
    #: "all" or "".
    system: str = ""
    trust_id: str = ""
    application_credential_id: str = ""


def new_audit_id() -> str:
    """A random audit id: 16 bytes in URL-safe base64 without padding."""
    return _text_of(uuid.uuid4().bytes)


def isotime(seconds: float) -> str:
    """Seconds since 1970 as 2026-11-21T04:00:00.000000Z."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def seconds(time: str) -> float:
    """A time as `isotime` writes it, with or without its Z, as seconds since 1970."""
    return datetime.fromisoformat(time.removesuffix("Z")).replace(tzinfo=UTC).timestamp()


class Tokens:
    """Writes and reads tokens. Remembers what it read, since clients send one token many times.

    Args:
        keys: the keys to use.
        remember: how many tokens.
    """

    def __init__(self, keys: KeyRepository, remember: int = 4096) -> None:
        self._keys = keys
        self._remember = remember
        self._read: OrderedDict[str, Token] = OrderedDict()
        self._crypt: MultiFernet | None = None

    def write(self, token: Token) -> str:
        """The text of a token, issued at `issued_at`, of which whole seconds are kept."""
        payload = msgspec.msgpack.encode(_payload(token))
        return self._keys.crypt().encrypt_at_time(payload, int(token.issued_at)).decode().rstrip("=")

    def read(self, text: str) -> Token:
        """What a token says; whether it has expired, is the caller's to ask.

        Raises:
            Unauthenticated: it is none of ours, or its key has been rotated away.
        """
        crypt = self._keys.crypt()
        if crypt is not self._crypt:
            # A key may be gone, and with it what it had signed.
            self._read.clear()
            self._crypt = crypt
        known = self._read.get(text)
        if known is not None:
            return known
        token = _decode(crypt, text)
        self._read[text] = token
        if len(self._read) > self._remember:
            self._read.popitem(last=False)
        return token


def _decode(crypt: MultiFernet, text: str) -> Token:
    try:
        if len(text) > MAX_LENGTH:
            raise ValueError
        raw = (text + "=" * (-len(text) % 4)).encode("ascii")
        issued = struct.unpack(">Q", base64.urlsafe_b64decode(raw)[1:9])[0]
        return _token(msgspec.msgpack.decode(crypt.decrypt(raw)), issued)
    except (InvalidToken, ValueError, TypeError, IndexError, struct.error, msgspec.DecodeError):
        raise Unauthenticated("The token is not valid. Log in again.") from None


def _payload(token: Token) -> tuple[Any, ...]:
    user = _id(token.user_id)
    methods = sum(1 << METHODS.index(method) for method in set(token.methods))
    audits = [_bytes_of(audit) for audit in token.audit_ids]
    if token.system:
        return (8, user, methods, token.system, token.expires_at, audits)
    if token.domain_id:
        _, domain = _id(token.domain_id)
        return (1, user, methods, domain, token.expires_at, audits)
    if not token.project_id:
        return (0, user, methods, token.expires_at, audits)
    project = _id(token.project_id)
    if token.trust_id:
        return (3, user, methods, project, token.expires_at, audits, uuid.UUID(token.trust_id).bytes)
    if token.application_credential_id:
        credential = _id(token.application_credential_id)
        return (9, user, methods, project, token.expires_at, audits, credential)
    return (2, user, methods, project, token.expires_at, audits)


#: Version -> the field of its scope, and the field of what follows the audit ids.
_SHAPES = {
    0: ("", ""),
    1: ("domain_id", ""),
    2: ("project_id", ""),
    3: ("project_id", "trust_id"),
    8: ("system", ""),
    9: ("project_id", "application_credential_id"),
}


def _token(payload: list[Any], issued: int) -> Token:
    version, user, methods, *rest = payload
    if version not in _SHAPES:
        raise ValueError(version)
    scope, last = _SHAPES[version]
    fields: dict[str, str] = {}
    if scope:
        fields[scope] = _name(rest.pop(0))
    expires, audits, *rest = rest
    if last:
        fields[last] = _name(rest.pop(0))
    return Token(
        user_id=_name(user),
        methods=tuple(name for bit, name in enumerate(METHODS) if methods >> bit & 1),
        audit_ids=tuple(_text_of(audit) for audit in audits),
        expires_at=float(expires),
        issued_at=float(issued),
        **fields,
    )


def _id(text: str) -> tuple[bool, bytes | str]:
    try:
        packed = uuid.UUID(text)
    except ValueError:
        return (False, text)
    return (True, packed.bytes) if packed.hex == text else (False, text)


def _name(value: Any) -> str:
    """An id, with or without the pair around it."""
    if isinstance(value, list):
        _, value = value
    if isinstance(value, bytes):
        return uuid.UUID(bytes=value).hex
    if not isinstance(value, str):
        raise TypeError(value)
    return value


def _bytes_of(audit: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(audit + "=" * (-len(audit) % 4))
    except binascii.Error:
        raise ValueError(audit) from None


def _text_of(audit: bytes) -> str:
    return base64.urlsafe_b64encode(audit).decode().rstrip("=")
