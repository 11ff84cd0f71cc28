"""Key pairs: public keys that a user keeps here, for servers to let in."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
import uuid
from collections.abc import Mapping
from dataclasses import replace as with_fields
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from trunkline.api.compute.flavors import next_link
from trunkline.api.compute.quotas import limit_of, spent
from trunkline.api.compute.wire import Body, at, body_of, page_limit, single
from trunkline.api.engine import Call, Engine
from trunkline.api.http import Endpoint, Reply, Request
from trunkline.errors import BadField, Conflict, NotFound
from trunkline.resources.compute import KeyPair
from trunkline.store import Reader, table_of

#: The size of the keys that are generated, bits. RSA, because every client and image takes it.
RSA_BITS = 2048
_NAME = re.compile(r"[a-zA-Z0-9\-_ ]{1,255}")
_NAME_292 = re.compile(r"[a-zA-Z0-9\-_ @.]{1,255}")


class Create(Body):
    """The body of a create request."""

    name: Any
    public_key: str | None = None
    type: str | msgspec.UnsetType = msgspec.UNSET
    user_id: str | msgspec.UnsetType = msgspec.UNSET


class KeyPairApi:
    """The handlers of /v2.1/os-keypairs."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def list(self, request: Request, minor: int) -> Reply:
        """The key pairs of the caller; an administrator may ask for another user's."""
        query = single(request.query)
        user = self._user(request, query, minor, "index")
        pairs = [("sort_key", "name")]
        if minor >= 35 and query.get("marker"):
            with self.engine.store.read() as reader:
                pairs.append(("marker", _find(reader, user, query["marker"]).id))
        parsed = self.engine.query(KeyPair, pairs)
        parsed = with_fields(
            parsed,
            where=(table_of(KeyPair).c.user_id == user,),
            limit=page_limit(query) if minor >= 35 else None,
        )
        page = await self.engine.page(request.context, KeyPair, parsed)
        body: dict[str, Any] = {"keypairs": [{"keypair": _brief(item, minor)} for item in page.items]}
        if page.more:
            rest = [(n, v) for n, v in request.query if n != "marker"]
            body["keypairs_links"] = [next_link(request, "os-keypairs", rest, page.items[-1]["name"])]
        return Reply(body)

    async def show(self, request: Request, minor: int) -> Reply:
        """One key pair."""
        user = self._user(request, single(request.query), minor, "show")
        with self.engine.store.read() as reader:
            pair = _find(reader, user, request.path["name"])
        shown = _brief(msgspec.structs.asdict(pair), minor)
        shown |= {
            "id": int(uuid.UUID(pair.id)) & 0x7FFFFFFF,
            "user_id": pair.user_id,
            "created_at": pair.created_at.removesuffix("Z") + ".000000",
            "deleted": False,
            "deleted_at": None,
            "updated_at": None,
        }
        return Reply({"keypair": shown})

    async def create(self, request: Request, minor: int) -> Reply:
        """Takes a public key, or before 2.92 makes a pair, of which the private key is told once."""
        given = await body_of(request, "keypair", Create)
        name = given.name
        if not isinstance(name, str) or not (_NAME_292 if minor >= 92 else _NAME).fullmatch(name):
            raise BadField("name", "a name has 1 to 255 characters, of letters, digits, '-', '_' and space.")
        if minor < 2 and given.type is not msgspec.UNSET:
            raise BadField("type", "it is there from microversion 2.2 on.")
        if minor < 10 and given.user_id is not msgspec.UNSET:
            raise BadField("user_id", "it is there from microversion 2.10 on.")
        kind = "ssh" if given.type is msgspec.UNSET else given.type
        if kind not in ("ssh", "x509"):
            raise BadField("type", "it must be ssh or x509.")
        if minor >= 92 and not given.public_key:
            raise BadField(
                "public_key", "it is required from microversion 2.92 on. Make a key with ssh-keygen."
            )
        private = ""
        if given.public_key:
            public, fingerprint = read_public_key(given.public_key, kind)
        else:
            # Much arithmetic: other requests go on meanwhile.
            private, public = await asyncio.to_thread(generate, kind)
            fingerprint = read_public_key(public, kind)[1]
        user = request.context.user_id if given.user_id is msgspec.UNSET else str(given.user_id)

        def run(call: Call) -> dict[str, Any]:
            call.require("os_compute_api:os-keypairs:create", {"user_id": user})
            if call.tx.find(KeyPair, user_id=user, name=name):
                raise Conflict(f"Key pair '{name}' already exists.", field="name")
            limit = limit_of(call.tx, call.context.project_id, "key_pairs")
            if 0 <= limit <= call.tx.count(KeyPair, user_id=user):
                raise spent("key_pairs", "Quota exceeded, too many key pairs.")
            id = str(uuid.uuid4())
            pair = KeyPair(
                id=id, name=name, user_id=user, type=kind, public_key=public, fingerprint=fingerprint
            )
            return _brief(msgspec.structs.asdict(call.add(pair)), minor)

        shown = await self.engine.write(request.context, run)
        shown["user_id"] = user
        if private:
            shown["private_key"] = private
        return Reply({"keypair": shown}, 201 if minor >= 2 else 200)

    async def delete(self, request: Request, minor: int) -> Reply:
        """Deletes a key pair. Servers keep the key that they were made with."""
        user = self._user(request, single(request.query), minor, "delete")
        await self.engine.write(
            request.context, lambda call: call.drop(_find(call.tx, user, request.path["name"]))
        )
        return Reply(None, 204 if minor >= 2 else 202)

    def _user(self, request: Request, query: Mapping[str, str], minor: int, verb: str) -> str:
        user = query.get("user_id") if minor >= 10 else None
        user = user or request.context.user_id
        self.engine.require(f"os_compute_api:os-keypairs:{verb}", request.context, {"user_id": user})
        return user


def _find(reader: Reader, user: str, name: str) -> KeyPair:
    for pair in reader.find(KeyPair, user_id=user, name=name):
        return pair
    raise NotFound(f"Keypair {name[:255]} not found for user {user[:255]}", type="KeypairNotFound")


def _brief(item: Mapping[str, Any], minor: int) -> dict[str, Any]:
    names = ("name", "public_key", "fingerprint", *(("type",) if minor >= 2 else ()))
    return {name: item[name] for name in names}


def read_public_key(text: str, kind: str = "ssh") -> tuple[str, str]:
    """A public key, and its fingerprint: MD5 of an SSH key (RFC 4716, 4), SHA-1 of a certificate.

    Args:
        kind: ssh, in OpenSSH's form on one line; or x509, a certificate in PEM.
    Raises:
        BadField: it is none.
    """
    return _read_certificate(text) if kind == "x509" else _read_ssh(text)


def _read_certificate(text: str) -> tuple[str, str]:
    try:
        if len(text) > 65536:
            raise ValueError
        found = x509.load_pem_x509_certificate(text.encode())
    except ValueError:
        raise BadField("public_key", "it is not an X.509 certificate in PEM.") from None
    # Clients of this API know certificates by this digest.
    return text, _pairs(found.fingerprint(hashes.SHA1()))


def _read_ssh(text: str) -> tuple[str, str]:
    line = text.strip()
    if len(line) > 16384 or "\n" in line or not line.isprintable():
        raise BadField("public_key", "it must be one line, as in a file ending in .pub.")
    parts = line.split(None, 2)
    try:
        if len(parts) < 2:
            raise ValueError
        serialization.load_ssh_public_key(" ".join(parts[:2]).encode())
        raw = base64.b64decode(parts[1], validate=True)
    except (ValueError, UnsupportedAlgorithm, binascii.Error):
        raise BadField(
            "public_key",
            "it is not a public key in OpenSSH's form. Send what stands in a file ending in .pub.",
        ) from None
    return line, _pairs(hashlib.md5(raw, usedforsecurity=False).digest())


def _pairs(digest: bytes) -> str:
    return ":".join(f"{byte:02x}" for byte in digest)


def generate(kind: str = "ssh") -> tuple[str, str]:
    """A new key pair: the private key in PEM, and the public key in OpenSSH's form, or as a certificate."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    if kind == "x509":
        return private.decode(), _certificate(key).decode()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode(), f"{public.decode()} generated-by-trunkline"


def _certificate(key: rsa.RSAPrivateKey) -> bytes:
    """A certificate for log-ins that the key signs itself, good for ten years."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "user")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return built.public_bytes(serialization.Encoding.PEM)


def endpoints(engine: Engine) -> list[Endpoint]:
    """The paths of key pairs."""
    api = KeyPairApi(engine)
    return [
        at("GET", "/v2.1/os-keypairs", api.list, kind="keypair"),
        at("POST", "/v2.1/os-keypairs", api.create, 201, kind="keypair"),
        at("GET", "/v2.1/os-keypairs/{name}", api.show, kind="keypair"),
        at("DELETE", "/v2.1/os-keypairs/{name}", api.delete, 204, kind="keypair"),
    ]
