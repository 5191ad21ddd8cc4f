"""Certificates of a small authority, made for a test."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LIFE = datetime.timedelta(days=1)


class Authority:
    """Signs certificates; what it signs lies as PEM files in a folder."""

    def __init__(self, folder: Path, name: str = "authority", life: datetime.timedelta = LIFE) -> None:
        """life: of what it signs from now on, and its own."""
        self._folder = folder
        self.life = life
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        self._certificate = _signed(self._name, self._key.public_key(), self._name, self._key, None, life)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(self.pem)

    @property
    def pem(self) -> bytes:
        """Its own certificate."""
        return self._certificate.public_bytes(serialization.Encoding.PEM)

    def sign(
        self, name: str, *names: x509.GeneralName, usage: x509.ObjectIdentifier | None = None
    ) -> tuple[Path, Path]:
        """A certificate with these subject alternative names, and its key: NAME.crt and NAME.key.

        usage: the only extended one that it is for; None = it does not say.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        signed = _signed(_name(name), key.public_key(), self._name, self._key, names, self.life, usage)
        certificate, private_key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        private_key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, private_key

    def sign_server(self, name: str) -> tuple[Path, Path]:
        """A certificate for a server on loopback."""
        loopback = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return self.sign(name, x509.DNSName(f"{name}.example"), loopback)


def serial_of(pem: bytes) -> int:
    """The serial number of a certificate."""
    return x509.load_pem_x509_certificate(pem).serial_number


def _signed(
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    names: tuple[x509.GeneralName, ...] | None,
    life: datetime.timedelta,
    usage: x509.ObjectIdentifier | None = None,
) -> x509.Certificate:
    """names: None = an authority."""
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - LIFE)
        .not_valid_after(now + life)
        .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
