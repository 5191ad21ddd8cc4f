"""How a client proves that it talks to its server, and to the server who it is.

Owns which files its TLS connection needs: of a caller to a gateway, and of a gateway to a worker.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import grpc

from inference_mesh.pem_files import Pem, PemFiles


@dataclasses.dataclass(frozen=True, slots=True)
class ClientTls:
    """TLS of a connection to a gateway, or of a gateway's to a worker.

    ca: PEM file of the authority that signed the server's certificate; for a public one the
    system's own, e.g. /etc/ssl/certs/ca-certificates.crt. cert, key: PEM files of the client's own
    certificate, for a server that asks for one. name: what the server's certificate is checked
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

    @property
    def files(self) -> PemFiles:
        """The files that a connection needs."""
        return PemFiles(self.ca, self.cert, self.key)

    def credentials(self) -> grpc.ChannelCredentials:
        """What a channel is opened with. Raises ConfigError naming the file that is missing or wrong."""
        return credentials_of(self.files.read())


def credentials_of(pem: Pem) -> grpc.ChannelCredentials:
    """What a channel is opened with, of files that are good."""
    return grpc.ssl_channel_credentials(pem.authority, pem.private_key or None, pem.certificate or None)


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
