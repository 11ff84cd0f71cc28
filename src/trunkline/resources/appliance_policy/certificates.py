"""Certificates of a balancer, and their keys, which nobody is shown again.

set:    a document with keys ──▶ stored whole
shown:  the same with HIDDEN in place of each key; set so, it means the key that is stored
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

from trunkline.errors import BadField
from trunkline.resources.appliance_policy.document import Policy

if TYPE_CHECKING:
    from cryptography import x509

#: What stands in place of a key.
HIDDEN = "(not shown)"


def redacted(document: dict[str, Any]) -> dict[str, Any]:
    """The document as it may be shown."""
    found: dict[str, Any] = copy.deepcopy(document)
    for certificate in _certificates(found).values():
        if "key" in certificate:
            certificate["key"] = HIDDEN
    return found


def restored(document: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """The document with the keys that it only hints at.

    Raises:
        BadField: there is no such key.
    """
    if not any(certificate.get("key") == HIDDEN for certificate in _certificates(document).values()):
        return document
    found, kept = copy.deepcopy(document), _certificates(stored)
    for name, certificate in _certificates(found).items():
        if certificate.get("key") == HIDDEN:
            if name not in kept:
                raise BadField(_path(name, "key"), "there is no stored key of that name. Give it.")
            certificate["key"] = kept[name]["key"]
    return found


def _certificates(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Those of a document that may have any shape."""
    balancer = document.get("balancer")
    found = balancer.get("certificates") if isinstance(balancer, dict) else None
    if not isinstance(found, dict):
        return {}
    return {name: each for name, each in found.items() if isinstance(each, dict)}


def check_certificates(policy: Policy) -> None:
    """Raises BadField: one is none, or its key is another's. Whether it is still valid, `expired` says.

    Units that are guests have no library for this; what comes to them was looked at before.
    """
    try:
        from cryptography.hazmat.primitives import serialization
    except ModuleNotFoundError:
        return
    for name, chain in _chains(policy):
        assert policy.balancer is not None
        text = policy.balancer.certificates[name].key
        try:
            key = serialization.load_pem_private_key(text.encode(), None)
        except TypeError:
            raise BadField(_path(name, "key"), "it is encrypted. Give it without a passphrase.") from None
        except Exception:
            # Whatever is wrong, what stands there is not to be repeated.
            raise BadField(
                _path(name, "key"), "it is no private key in PEM, as -----BEGIN PRIVATE KEY-----."
            ) from None
        form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        if key.public_key().public_bytes(*form) != chain[0].public_key().public_bytes(*form):
            raise BadField(
                _path(name, "key"),
                "it is not the key of this certificate. Give that, and the server's own certificate first.",
            )


def expired(policy: Policy, now: datetime, stored: dict[str, Any]) -> None:
    """Raises BadField: a certificate that is not stored already is not valid any more."""
    kept, given = _certificates(stored), policy.balancer.certificates if policy.balancer else {}
    for name, chain in _chains(policy):
        if kept.get(name, {}).get("certificate") == given[name].certificate:
            continue
        for place, each in enumerate(chain):
            # Names of the API of cryptography before and after version 42 (in UTC, both).
            until = getattr(each, "not_valid_after_utc", None) or each.not_valid_after
            if until.replace(tzinfo=None) < now.replace(tzinfo=None):
                which = "it" if not place else f"number {place + 1} of its chain"
                raise BadField(
                    _path(name, "certificate"), f"{which} has expired on {until:%Y-%m-%d}. Give a new one."
                )


def _chains(policy: Policy) -> Iterator[tuple[str, list[x509.Certificate]]]:
    """Each certificate and those behind it. Raises BadField."""
    given = policy.balancer.certificates if policy.balancer else {}
    if not given:
        return
    # Who has none needs none of this.
    from cryptography import x509

    for name, certificate in given.items():
        try:
            yield name, x509.load_pem_x509_certificates(certificate.certificate.encode())
        except ValueError:
            raise BadField(
                _path(name, "certificate"),
                "it is no certificate in PEM, as -----BEGIN CERTIFICATE-----, with its chain behind it.",
            ) from None


def _path(name: str, field: str) -> str:
    return f"balancer.certificates.{name}.{field}"
