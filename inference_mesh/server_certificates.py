"""The TLS of a server's gRPC port.

Owns which certificate the next handshake has: a renewed one, if it is good, without a restart.
"""

from __future__ import annotations

from pathlib import Path

import grpc

from inference_mesh import telemetry
from inference_mesh.config.errors import ConfigError
from inference_mesh.pem_files import Pem, PemFiles

log = telemetry.get_logger(__name__)


class ServerCertificates:
    """The certificate of a server; a renewed one serves the next handshake."""

    def __init__(self, certificate: Path, private_key: Path, client_ca: Path | None) -> None:
        """client_ca: whose certificates clients must show; None = they need none."""
        self._files = PemFiles(client_ca, certificate, private_key)
        self._last: Pem | None = None
        self._last_problem = ""

    def credentials(self) -> grpc.ServerCredentials:
        """What a port is opened with. Raises ConfigError if a file is missing or not what it must be.

        With a client CA every client must show a certificate: gRPC knows no "may".
        """
        self._last = self._files.read()
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._last),
            self._renewed,  # type: ignore[arg-type]  # None is allowed: nothing changed
            require_client_authentication=bool(self._last.authority),
        )

    def next(self) -> Pem | None:
        """What the next handshake has; None if the files were never good."""
        try:
            return self._files.read(self._last)
        except ConfigError:
            return self._last

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """The certificate if it changed; asked by gRPC's own threads before each handshake."""
        try:
            found = self._files.read(self._last)
        except ConfigError as error:
            if str(error) != self._last_problem:
                log.error("certificate refused, the last good one stays", reason=str(error))  # noqa: TRY400
            self._last_problem = str(error)
            return None
        self._last_problem = ""
        if found == self._last:
            return None
        self._last = found
        log.info("certificate loaded", path=str(self._files.certificate))
        return _configuration(found)


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(pem.private_key, pem.certificate)], pem.authority or None
    )
