"""How a client proves that it talks to its gateway, and to the gateway who it is.

Owns which files a TLS connection needs, and that they are read and good before one is opened:
gRPC would only say at the first call that it cannot connect.
"""

from __future__ import annotations

import dataclasses
import ssl
from pathlib import Path

import grpc

from inference_mesh.config.errors import ConfigError, Problem


@dataclasses.dataclass(frozen=True, slots=True)
class ClientTls:
    """TLS of a connection to a gateway.

    ca: PEM file of the authority that signed the gateway's certificate; for a public one the
    system's own, e.g. /etc/ssl/certs/ca-certificates.crt. cert, key: PEM files of the client's own
    certificate, for a gateway that asks for one. name: what the gateway's certificate is checked
    for; empty = the host of the address.
    """

    ca: Path
    cert: Path | None = None
    key: Path | None = None
    name: str = ""

    def __post_init__(self) -> None:
        """Raises ValueError for a certificate without its key, or the other way round."""
        if (self.cert is None) != (self.key is None):
            raise ValueError("a client's certificate and its key belong together")

    def credentials(self) -> grpc.ChannelCredentials:
        """What a channel is opened with. Raises ConfigError naming the file that is missing or wrong."""
        authority = _bytes_of(self.ca)
        _check_certificates(self.ca)
        if self.cert is None or self.key is None:
            return grpc.ssl_channel_credentials(authority)
        certificate, private_key = _bytes_of(self.cert), _bytes_of(self.key)
        _check_pair(self.cert, self.key)
        return grpc.ssl_channel_credentials(authority, private_key, certificate)


def client_tls(
    ca: Path | None, cert: Path | None, key: Path | None, name: str, *, called: str
) -> ClientTls | None:
    """The TLS that settings or options ask for; None = none, where they say nothing.

    called: how the four are called, "{}" for ca, cert, key and name, e.g. "--tls-{}". Raises
    ValueError, which names them, for parts that say nothing without the others.
    """
    if (cert is None) != (key is None):
        raise ValueError(f"{called.format('cert')} and {called.format('key')} belong together")
    if ca is not None:
        return ClientTls(ca, cert, key, name)
    for given, part in ((cert, "cert"), (name, "name")):
        if given:
            raise ValueError(f"{called.format(part)} needs {called.format('ca')}")
    return None


def _check_certificates(path: Path) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except (ssl.SSLError, ValueError):
        raise ConfigError(str(path), (Problem("", "has no certificate in the form PEM"),)) from None


def _check_pair(certificate: Path, private_key: Path) -> None:
    _check_certificates(certificate)
    try:
        # With a password, so that a key that needs one is refused and not asked for on the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, private_key, password="")
    except (ssl.SSLError, ValueError) as error:
        is_other = getattr(error, "reason", "") == "KEY_VALUES_MISMATCH"
        message = f"is not the key of {certificate}" if is_other else "must be PEM, without a password"
        raise ConfigError(str(private_key), (Problem("", message),)) from None


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(str(path), (Problem("", f"cannot be read: {error.strerror}"),)) from None
