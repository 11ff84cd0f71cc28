"""What is offered of the API's words: those whose effect was seen in packets, and why the others are not."""

from __future__ import annotations

from collections.abc import Mapping

from trunkline.errors import BadField

LISTENER_PROTOCOLS = ("HTTP", "HTTPS", "TCP", "UDP")
POOL_PROTOCOLS = ("HTTP", "HTTPS", "PROXY", "TCP", "UDP")
ALGORITHMS = ("LEAST_CONNECTIONS", "ROUND_ROBIN", "SOURCE_IP", "SOURCE_IP_PORT")
PERSISTENCE = ("APP_COOKIE", "HTTP_COOKIE", "SOURCE_IP")
MONITORS = ("HTTP", "HTTPS", "PING", "TCP", "TLS-HELLO", "UDP-CONNECT")

#: Who does the work, under the names by which clients may ask for it.
PROVIDERS: Mapping[str, str] = {
    "trunkline": "Appliances of this cloud",
    "amphora": "Another name of trunkline, for clients that ask for it",
    "octavia": "Another name of trunkline, for clients that ask for it",
}

_NO_KEYS = "certificates are kept by a key manager (Barbican), which this cloud does not have"
_WHY: Mapping[str, str] = {
    "PROMETHEUS": "statistics are read by GET .../stats",
    "SCTP": "data planes do not balance SCTP",
    "SSL_CONN_HAS_CERT": _NO_KEYS,
    "SSL_DN_FIELD": _NO_KEYS,
    "SSL_VERIFY_RESULT": _NO_KEYS,
    "TERMINATED_HTTPS": f"{_NO_KEYS}. Listen for HTTPS, which members answer by themselves",
}


def refuse(field: str, value: str, words: tuple[str, ...]) -> None:
    """Raises BadField where a word of the API is not offered."""
    if value not in words:
        why = _WHY.get(value, "nothing here does it yet")
        remedy = f"Use one of: {', '.join(words)}." if words else "Leave it out."
        raise BadField(field, f"{value} is not offered: {why}. {remedy}")


def check_provider(field: str, name: str) -> None:
    """Raises BadField where there is no such provider."""
    if name not in PROVIDERS:
        raise BadField(field, f"there is no provider '{name}'. There are: {', '.join(PROVIDERS)}.")
