"""The region's own certificate authority: keys, certificates and the TLS settings made of them.

Everything of a region that speaks TLS among its own (the host channel, OVN's databases, ovn-controller)
trusts this one authority and nothing else. Keys are ECDSA on P-256 (RFC 5480), certificates X.509 v3
(RFC 5280), files PEM (RFC 7468).

`cryptography` is imported inside the functions that make keys: an agent that has joined needs none of
them, and must start quickly.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import ipaddress
import os
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from trunkline.devices import files
from trunkline.errors import BadField

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

_AUTHORITY_DAYS = 3650
_LEAF_DAYS = 1825
#: A certificate is made anew when less than this is left of it.
_RENEW_DAYS = 90
#: Clocks of hosts differ; a new certificate must be valid on all of them.
_BACKDATE = timedelta(days=1)


@dataclass(frozen=True)
class IssuedFiles:
    """Where a private key (mode 0600) and its certificate stand, both PEM."""

    key: Path
    cert: Path


class Authority:
    """The authority of one region.

    Owns ``DIRECTORY/ca.key``, ``DIRECTORY/ca.crt`` and the ``NAME.key``, ``NAME.crt`` that it issued
    there. What it wrote is on the disk before a method returns. Several processes may open one.
    """

    def __init__(self, directory: Path) -> None:
        """Of files that exist; use `open`."""
        self.directory = directory
        #: The authority's certificate: what everybody trusts.
        self.certificate_file = directory / "ca.crt"
        self.certificate_pem = self.certificate_file.read_text()
        #: SHA-256 of the certificate (DER), hexadecimal.
        self.fingerprint = fingerprint(self.certificate_pem)

    @classmethod
    def open(cls, directory: Path) -> Authority:
        """The authority that lives in `directory`; makes it on first use."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(directory):
            if not (directory / "ca.crt").exists():
                _make_authority(directory)
        return cls(directory)

    def issue(
        self, common_name: str, addresses: Sequence[str] = (), names: Sequence[str] = ()
    ) -> IssuedFiles:
        """A key and a certificate for one of the region's own servers (they serve clients too).

        The files of an earlier call are kept while they are valid, by this authority, and for the same
        addresses and names. The key is kept in any case.

        Args:
            common_name: the name in the subject, and of the files.
            addresses: IP addresses that it is reached by.
            names: DNS names that it is reached by.
        Raises:
            BadField: the common name cannot be a file's name.
        """
        if not common_name or common_name == "ca" or set(common_name) & set("/\0") or common_name[0] == ".":
            raise BadField("common_name", f"'{common_name}' cannot name a file.")
        issued = IssuedFiles(self.directory / f"{common_name}.key", self.directory / f"{common_name}.crt")
        with _locked(self.directory):
            key = _key_in(issued.key)
            if not self._still_good(issued.cert, key, addresses, names):
                pem = self._certify(key.public_key(), common_name, addresses, names)
                files.replace(issued.cert, pem.encode(), 0o644)
        return issued

    def sign(
        self, csr_pem: str, common_name: str, addresses: Sequence[str] = (), names: Sequence[str] = ()
    ) -> str:
        """A certificate (PEM) for the key of a request (PKCS #10, RFC 2986).

        Only the public key is taken from the request; whatever name it claims is ignored.

        Raises:
            BadField: the request is malformed, or not signed by its own key, or its key is not on P-256.
        """
        from cryptography import x509
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            request = x509.load_pem_x509_csr(csr_pem.encode())
            signed = request.is_signature_valid
            key = request.public_key()
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise BadField("csr", "it is no certificate request in PEM.") from None
        if not signed:
            raise BadField("csr", "its signature is not by the key that it carries.")
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise BadField("csr", "its key is not an elliptic-curve key on P-256.")
        return self._certify(key, common_name, addresses, names)

    def _certify(
        self,
        key: ec.EllipticCurvePublicKey,
        common_name: str,
        addresses: Sequence[str],
        names: Sequence[str],
    ) -> str:
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.x509.oid import ExtendedKeyUsageOID

        own_key = _key_in(self.directory / "ca.key")
        own = x509.load_pem_x509_certificate(self.certificate_pem.encode())
        alternatives: list[x509.GeneralName] = [x509.DNSName(n) for n in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(a)) for a in addresses]
        builder = (
            _builder(key, _subject(common_name), own.subject, _LEAF_DAYS)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(ca=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(own_key.public_key()), critical=False
            )
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return builder.sign(own_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def _still_good(
        self,
        file: Path,
        key: ec.EllipticCurvePrivateKey,
        addresses: Sequence[str],
        names: Sequence[str],
    ) -> bool:
        from cryptography import x509
        from cryptography.exceptions import InvalidSignature

        try:
            cert = x509.load_pem_x509_certificate(file.read_bytes())
            cert.verify_directly_issued_by(x509.load_pem_x509_certificate(self.certificate_pem.encode()))
        except (FileNotFoundError, ValueError, InvalidSignature):
            return False
        try:
            said = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            has_names = set(said.get_values_for_type(x509.DNSName))
            has_addresses = {str(a) for a in said.get_values_for_type(x509.IPAddress)}
        except x509.ExtensionNotFound:
            has_names, has_addresses = set(), set()
        return (
            cert.public_key() == key.public_key()
            and has_names == set(names)
            and has_addresses == {str(ipaddress.ip_address(a)) for a in addresses}
            and cert.not_valid_after_utc > datetime.now(UTC) + timedelta(days=_RENEW_DAYS)
        )


def fingerprint(certificate_pem: str) -> str:
    """SHA-256 of a certificate (DER), hexadecimal.

    Raises:
        ValueError: it is no certificate in PEM.
    """
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate_pem)).hexdigest()


def new_request(common_name: str) -> tuple[str, str]:
    """A new private key and a certificate request for it: (key, request), both PEM."""
    key = _key_pem(_new_key()).decode()
    return key, request_for(key, common_name)


def request_for(key_pem: str, common_name: str) -> str:
    """A certificate request (PKCS #10, RFC 2986; PEM) for a private key (PEM)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = serialization.load_pem_private_key(key_pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadField("key", "it is of another kind. Move it away, and a new one is made.")
    request = x509.CertificateSigningRequestBuilder().subject_name(_subject(common_name))
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def server_context(files: IssuedFiles, authority: Path, *, clients: ssl.VerifyMode) -> ssl.SSLContext:
    """TLS settings of a server of the region.

    Args:
        files: its key and certificate.
        authority: the authority's certificate, which those of clients are checked against.
        clients: whether a client must show one: CERT_NONE, CERT_OPTIONAL, CERT_REQUIRED.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files.cert, files.key)
    context.load_verify_locations(authority)
    context.verify_mode = clients
    return context


def client_context(authority_pem: str | None, files: IssuedFiles | None = None) -> ssl.SSLContext:
    """TLS settings of a client: it trusts the region's authority alone, not the machine's.

    Args:
        authority_pem: the authority's certificate. None checks nothing at all, and is only for asking
            a server for a certificate whose fingerprint is known by other means.
        files: what the client shows of itself.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if authority_pem is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cadata=authority_pem)
    if files is not None:
        context.load_cert_chain(files.cert, files.key)
    return context


def _make_authority(directory: Path) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    # The key first: one that is found without a certificate, after a crash between the two, is used.
    key = _key_in(directory / "ca.key")
    subject = _subject("Trunkline region authority")
    certificate = (
        _builder(key.public_key(), subject, subject, _AUTHORITY_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    files.replace(directory / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _builder(
    key: ec.EllipticCurvePublicKey, subject: x509.Name, issuer: x509.Name, days: int
) -> x509.CertificateBuilder:
    from cryptography import x509

    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, ca: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(common_name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _new_key() -> ec.EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _key_in(file: Path) -> ec.EllipticCurvePrivateKey:
    """The private key of a file; makes both where there is none."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except FileNotFoundError:
        key = _new_key()
        files.replace(file, _key_pem(key), 0o600)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise BadField(str(file), "it holds a key of another kind. Move it away, and a new one is made.")
    return key


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """One process at a time makes files in the directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
