"""One model's worker process: started, watched, stopped.

Owns the process and its folder. It listens on the loopback interface, at ports that it tells by a
file; its log goes where the host's goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import grpc

from inference_mesh import telemetry
from inference_mesh.channels import open_channel
from inference_mesh.error_status import error_from_rpc
from inference_mesh.errors import ModelNotReadyError
from inference_mesh.oip import open_inference_pb2 as oip
from workers import open_inference_servicer as oip_service
from workers.host.host_file import HostedModel

log = telemetry.get_logger(__name__)

PORT_FILE = "ports.json"
POLL_S = 0.02
KILLED_AFTER_S = 5.0
"""How long a process may take to end after its grace is over."""

ASK_TIMEOUT_S = 5.0


class ModelProcess:
    """A running worker."""

    def __init__(self, model: HostedModel, max_message_bytes: int, grace_s: float) -> None:
        self._model = model
        self._max_message_bytes = max_message_bytes
        self._grace_s = grace_s
        self._process: asyncio.subprocess.Process | None = None
        self._folder: Path | None = None
        self._channel: grpc.aio.Channel | None = None

    @property
    def channel(self) -> grpc.aio.Channel:
        """The connection to it; only while it is ready."""
        if self._channel is None:
            raise ModelNotReadyError(f"model '{self._model.name}' is not loaded")
        return self._channel

    @property
    def pid(self) -> int:
        """Its process id; 0 before the start."""
        return self._process.pid if self._process is not None else 0

    async def start(self, limit_s: float) -> None:
        """Start it and wait until it serves. Raises ModelNotReadyError with its reason."""
        self._folder = Path(tempfile.mkdtemp(prefix="mesh-host-"))
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "workers.host.child", str(os.getpid()), *self._arguments(),
            stdin=asyncio.subprocess.DEVNULL, env=_environment(),
        )  # fmt: skip
        try:
            async with asyncio.timeout(limit_s):
                self._channel = await self._open()
        except TimeoutError:
            raise ModelNotReadyError(
                f"model '{self._model.name}' did not load within {limit_s:g} s"
            ) from None

    async def ended(self) -> int:
        """Wait for its end; its exit code, below 0 by a signal."""
        return 0 if self._process is None else await self._process.wait()

    async def stop(self) -> None:
        """Let its calls finish within the grace, end it, and remove what it left. Safe to call twice."""
        if self._process is not None and self._process.returncode is None:
            await self._end(self._process)
        if self._channel is not None:
            await self._channel.close()
            self._channel = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._grace_s + KILLED_AFTER_S):
                await process.wait()
        except TimeoutError:
            log.warning("worker killed", model=self._model.name, reason="it did not end by itself")
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _open(self) -> grpc.aio.Channel:
        """A connection once the model is loaded. Raises ModelNotReadyError if it never will be."""
        channel: grpc.aio.Channel | None = None
        try:
            while True:
                ports = self._ports()
                if channel is None and "grpc" in ports:
                    target = f"127.0.0.1:{ports['grpc']}"
                    channel = open_channel(target, max_message_bytes=self._max_message_bytes)
                if channel is not None and ports.get("ready"):
                    opened, channel = channel, None
                    return opened
                self._check_alive()
                if channel is not None:
                    await self._check_failure(channel)
                await asyncio.sleep(POLL_S)
        finally:
            if channel is not None:
                await channel.close()

    def _check_alive(self) -> None:
        if self._process is None or self._process.returncode is not None:
            raise ModelNotReadyError(f"the worker of model '{self._model.name}' ended; the log says why")

    async def _check_failure(self, channel: grpc.aio.Channel) -> None:
        """Raises ModelNotReadyError with the reason, if the model cannot be loaded."""
        message = oip.ModelMetadataRequest(name=self._model.name).SerializeToString()
        ask: Any = channel.unary_unary(f"/{oip_service.SERVICE}/ModelMetadata")
        try:
            await ask(message, timeout=ASK_TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            found = error_from_rpc(error)
            if isinstance(found, ModelNotReadyError):
                raise found from None

    def _ports(self) -> dict[str, int]:
        if self._folder is None:
            return {}
        try:
            found: dict[str, int] = json.loads((self._folder / PORT_FILE).read_text())
        except (OSError, ValueError):
            return {}
        return found

    def _arguments(self) -> list[str]:
        model = self._model
        told: dict[str, object] = {
            **model.settings,
            "model": model.model,
            "name": model.name,
            "runtime": model.runtime,
            "task": model.task,
            "host": "127.0.0.1",
            "grpc_port": 0,
            "http_port": 0,
            "grace_s": self._grace_s,
            "max_message_bytes": self._max_message_bytes,
            "port_file": (self._folder or Path()) / PORT_FILE,
        }
        if model.version:
            told["version"] = model.version
        return [f"--{name.replace('_', '-')}={value}" for name, value in told.items()]


def _environment() -> dict[str, str]:
    """The host's own, without what is meant for it or for a worker of its own."""
    foreign = ("MESH_HOST_", "MESH_WORKER_")
    return {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
