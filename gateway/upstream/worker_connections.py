"""How connections to workers are opened: in plaintext, or with TLS by the files as they are now.

Owns the files' state. A renewed one serves the connections that are opened after; one that is
not good changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import grpc

from inference_mesh import telemetry
from inference_mesh.channels import MAX_MESSAGE_BYTES, open_channel, open_secure_channel
from inference_mesh.client_tls import ClientTls, credentials_of
from inference_mesh.config.errors import ConfigError
from inference_mesh.pem_files import Pem

log = telemetry.get_logger(__name__)

POLL_INTERVAL_S = 1.0


class WorkerConnections:
    """Opens channels to workers."""

    def __init__(self, tls: ClientTls | None = None, *, max_message_bytes: int = MAX_MESSAGE_BYTES) -> None:
        """tls: None = plaintext; its name is checked of every worker, where it has one."""
        self.tls = tls
        self._max_message_bytes = max_message_bytes
        self._pem: Pem | None = None
        self._credentials: grpc.ChannelCredentials | None = None
        self._last_problem = ""

    @property
    def pem(self) -> Pem | None:
        """What new connections are opened with; None without TLS."""
        return self._pem

    def load(self) -> None:
        """Read the files for the first time. Raises ConfigError if one is not good."""
        if self.tls is not None:
            self._take(self.tls.files.read())

    def open(self, address: str, service: str) -> grpc.aio.Channel:
        """A channel to the worker at an address; the caller closes it.

        service: the name that the address was found by, which the worker's certificate must then
        have; empty = that is the host of the address. Raises ConfigError if nothing was loaded yet,
        and a file is not good.
        """
        if self.tls is None:
            return open_channel(address, max_message_bytes=self._max_message_bytes)
        credentials = self._credentials or self._take(self.tls.files.read())
        name = self.tls.name or service
        return open_secure_channel(address, credentials, name, max_message_bytes=self._max_message_bytes)

    async def watch(self, on_renewal: Callable[[], None]) -> None:
        """Read the files again for ever; on_renewal: called after a change that is good."""
        while self.tls is not None:
            await asyncio.sleep(POLL_INTERVAL_S)
            try:
                found = await asyncio.to_thread(self.tls.files.read, self._pem)
            except ConfigError as error:
                self._refuse(str(error))
                continue
            self._last_problem = ""
            if found != self._pem:
                self._take(found)
                log.info("certificate loaded", path=str(self.tls.cert or self.tls.ca))
                on_renewal()

    def _take(self, pem: Pem) -> grpc.ChannelCredentials:
        self._pem, self._credentials = pem, credentials_of(pem)
        return self._credentials

    def _refuse(self, problem: str) -> None:
        if problem != self._last_problem:
            log.error("certificate refused, the last good one stays", reason=problem)
        self._last_problem = problem
