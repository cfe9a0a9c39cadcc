"""Tokens, keys and certificates: the one place of the operator where randomness is made.

The certificate authority of a namespace signs one certificate, which its agents and gateways present; clients dial pod
addresses and verify the name `wire.server_name(namespace)` instead. The authority's private key is thrown away after
signing: a renewal makes a new authority.
"""

from __future__ import annotations

import datetime
import secrets
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from npc_runtime.wire import server_name

CERTIFICATE_DAYS = 365
AUTHORITY_DAYS = 400
"""A little longer than the certificate it signed, so that the certificate's end is what counts."""
BACKDATE = datetime.timedelta(hours=1)
"""Clocks of nodes differ: valid a little before it was made."""
TOKEN_BYTES = 32


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM texts."""

    certificate: str
    private_key: str
    authority: str

    def __repr__(self) -> str:
        return "Certificate(...)"


def make_token() -> str:
    """256 random bits as URL-safe text."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def make_certificate(namespace: str, now: float) -> Certificate:
    """A new authority and the namespace's certificate signed by it (EC P-256, SHA-256)."""
    start = datetime.datetime.fromtimestamp(now, datetime.UTC) - BACKDATE
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"npc-fleet {namespace[:40]} {secrets.token_hex(4)}")]
    )
    authority = (
        x509.CertificateBuilder()
        .subject_name(authority_name)
        .issuer_name(authority_name)
        .public_key(authority_key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=AUTHORITY_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signing=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, server_name(namespace)[:64])]))
        .issuer_name(authority_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=CERTIFICATE_DAYS))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(server_name(namespace))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signing=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return Certificate(
        certificate=leaf.public_bytes(serialization.Encoding.PEM).decode(),
        private_key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        authority=authority.public_bytes(serialization.Encoding.PEM).decode(),
    )


def _usage(*, signing: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signing,
        key_cert_sign=signing,
        crl_sign=signing,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def certificate_end(namespace: str, certificate: str, private_key: str, bundle: str) -> float | None:
    """When a certificate ends (Unix seconds), or None if it cannot be used: unreadable, for another name or key, or
    trusted by nobody in `bundle`.
    """
    try:
        leaf = x509.load_pem_x509_certificate(certificate.encode())
        key = serialization.load_pem_private_key(private_key.encode(), password=None)
        authorities = x509.load_pem_x509_certificates(bundle.encode())
        alternative = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, x509.ExtensionNotFound):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != leaf.public_key():
        return None
    if server_name(namespace) not in alternative.get_values_for_type(x509.DNSName):
        return None
    if not any(authority.subject == leaf.issuer for authority in authorities):
        return None
    return leaf.not_valid_after_utc.timestamp()
