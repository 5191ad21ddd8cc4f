"""The TLS of the gateway's port, and the names in a client's certificate.

Owns how certificates are read, and read again when they are renewed. Which tenant a name is, is
the policy's decision.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from inference_mesh import telemetry
from inference_mesh.config.errors import ConfigError, Problem

log = telemetry.get_logger(__name__)

SUBJECT_ALTERNATIVE_NAME = "x509_subject_alternative_name"
MAX_NAMES = 64


def certificate_names(auth_context: Mapping[str, Iterable[bytes]]) -> tuple[str, ...]:
    """The subject alternative names of a client's verified certificate; none without one.

    auth_context: grpc's, of one call. gRPC asks a client for a certificate only if it also
    verifies it, so what stands there is verified.
    """
    names = tuple(auth_context.get(SUBJECT_ALTERNATIVE_NAME, ()))
    if len(names) > MAX_NAMES:
        return ()
    return tuple(name.decode("utf-8", "replace") for name in names)


@dataclasses.dataclass(frozen=True, slots=True)
class Pem:
    """The files of one certificate as they are read."""

    certificate: bytes
    private_key: bytes
    client_ca: bytes | None


class ServerCertificates:
    """The certificate of a server; a renewed one serves the next handshake, without a restart."""

    def __init__(self, certificate: Path, private_key: Path, client_ca: Path | None) -> None:
        """client_ca: whose certificates clients must show; None = they need none."""
        self._certificate = certificate
        self._private_key = private_key
        self._client_ca = client_ca
        self._last: Pem | None = None
        self._last_problem = ""

    def credentials(self) -> grpc.ServerCredentials:
        """What a port is opened with. Raises ConfigError if a file is missing or not what it must be.

        With a client CA every client must show a certificate: gRPC knows no "may".
        """
        self._last = self._read()
        _check(self._last, str(self._certificate))
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._last),
            self._renewed,  # type: ignore[arg-type]  # None is allowed: nothing changed
            require_client_authentication=self._client_ca is not None,
        )

    def ends_at_s(self) -> dict[str, float]:
        """Unix time at which the first certificate of each file of the next handshake ends, by setting."""
        try:
            pem = self._read()
            _check(pem, str(self._certificate))
        except ConfigError:
            pem = self._last or Pem(b"", b"", None)
        found = {"tls_cert": pem.certificate, "tls_client_ca": pem.client_ca}
        return {name: _first_end_s(text) for name, text in found.items() if text}

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """The certificate if it changed; asked by gRPC's own threads before each handshake."""
        found: Pem | None = None
        problem = ""
        try:
            found = self._read()
            if found != self._last:
                _check(found, str(self._certificate))
        except ConfigError as error:
            problem = str(error)
        if problem and problem != self._last_problem:
            log.error("certificate refused, the last good one stays", reason=problem)
        self._last_problem = problem
        if problem or found is None or found == self._last:
            return None
        self._last = found
        log.info("certificate loaded", path=str(self._certificate))
        return _configuration(found)

    def _read(self) -> Pem:
        authority = None if self._client_ca is None else _bytes_of(self._client_ca)
        return Pem(_bytes_of(self._certificate), _bytes_of(self._private_key), authority)


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.private_key, pem.certificate)], pem.client_ca)


def _check(pem: Pem, source: str) -> None:
    """Raise ConfigError if gRPC could not serve with these: it would refuse every handshake."""
    try:
        certificate = x509.load_pem_x509_certificates(pem.certificate)[0]
        private_key = serialization.load_pem_private_key(pem.private_key, None)
        if pem.client_ca is not None:
            x509.load_pem_x509_certificates(pem.client_ca)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        message = "certificate, private key and client CA must be PEM, without a password"
        raise ConfigError(source, (Problem("", message),)) from None
    if certificate.public_key() != private_key.public_key():
        raise ConfigError(source, (Problem("", "the private key is another certificate's"),))


def _first_end_s(pem: bytes) -> float:
    certificates = x509.load_pem_x509_certificates(pem)
    return min(certificate.not_valid_after_utc.timestamp() for certificate in certificates)


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(str(path), (Problem("", f"cannot be read: {error.strerror}"),)) from None
