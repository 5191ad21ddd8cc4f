"""One service under supervision: its process is started, watched and started again.

Owns the service's state. `restart_policy` decides, `child` acts.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import Callable
from typing import Any

from mesh_cli.child import Child
from mesh_cli.plan import ServiceSpec, command_arguments
from mesh_cli.ports import free_port, is_free
from mesh_cli.process_identity import start_mark
from mesh_cli.readiness import wait_settled
from mesh_cli.restart_policy import End, History, RestartPolicy, after_end
from mesh_cli.state import ServiceState, StateFolder, Status


class SupervisedService:
    """A service that is kept running until it is stopped or has failed for good."""

    def __init__(
        self, spec: ServiceSpec, folder: StateFolder, policy: RestartPolicy, on_change: Callable[[], None]
    ) -> None:
        """on_change: called after each change of `spec` or `state`."""
        self.spec = spec
        self._folder = folder
        self._policy = policy
        self._on_change = on_change
        self._history = History()
        self._child: Child | None = None
        self._stopping = asyncio.Event()
        self._log = folder.log_file(spec.name)
        self.state = ServiceState(
            name=spec.name,
            kind=spec.kind,
            model=spec.model,
            grpc_port=spec.grpc_port,
            http_port=spec.http_port,
            log=str(self._log),
        )

    async def run(self) -> None:
        """Keep it running; returns once it is stopped or has failed for good."""
        if self.spec.problem:
            self._change(status=Status.FAILED, reason=self.spec.problem)
            return
        while not self._stopping.is_set():
            end, reason = await self._run_once()
            if self._stopping.is_set():
                break
            decision = after_end(self._history, end, self._policy)
            self._history = decision.history
            if decision.delay_s is None:
                self._change(status=Status.FAILED, pid=0, start_mark=None, reason=reason)
                return
            self._change(status=Status.WAITING, pid=0, start_mark=None, reason=reason)
            await self._wait(decision.delay_s)
            self._change(restarts=self.state.restarts + 1)
            self._move_from_taken_ports()
        self._change(status=Status.STOPPED, pid=0, start_mark=None)

    async def stop(self, grace_s: float) -> None:
        """End it within the grace, and start it no more."""
        self._stopping.set()
        if self._child is not None and not self._child.has_ended:
            self._change(status=Status.STOPPING)
            await self._child.stop(grace_s)

    def kill(self) -> None:
        """End it at once, and start it no more."""
        self._stopping.set()
        if self._child is not None:
            self._child.kill()

    def stop_restarting(self) -> None:
        """Start it no more; what runs goes on."""
        self._stopping.set()

    async def _run_once(self) -> tuple[End, str]:
        port_file = self._folder.port_file(self.spec.name)
        started = time.monotonic()
        self._child = await Child.start(
            self.spec.module,
            command_arguments(self.spec, port_file),
            port_file=port_file,
            log=self._log,
            environment=self.spec.environment,
        )
        if self._stopping.is_set():  # asked for while the process was being made
            self._child.kill()
        self._change(
            status=Status.STARTING,
            pid=self._child.pid,
            start_mark=start_mark(self._child.pid),
            started_at=time.time(),
            ready_after_s=None,
        )
        readiness = await wait_settled(self._child)
        ready_at = time.monotonic()
        was_ready = readiness is not None and readiness.is_ready
        if readiness is not None and not self._stopping.is_set():
            status = Status.READY if was_ready else Status.FAILED
            ready_after_s = round(ready_at - started, 3) if was_ready else None
            self._change(status=status, reason=readiness.problem, ready_after_s=ready_after_s)
        code = await self._child.wait()
        ready_s = time.monotonic() - ready_at if was_ready else 0.0
        return End(code, was_ready, ready_s), self._child.end_reason(code)

    async def _wait(self, delay_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), delay_s)

    def _move_from_taken_ports(self) -> None:
        """A worker whose port another program has taken gets another; the rest keep theirs."""
        if self.spec.kind != "worker" or self._stopping.is_set():
            return
        grpc_port, http_port = self.spec.grpc_port or 0, self.spec.http_port or 0
        if is_free(grpc_port) and is_free(http_port):
            return
        grpc_port = free_port()
        self.spec = dataclasses.replace(self.spec, grpc_port=grpc_port, http_port=free_port((grpc_port,)))
        self._change(grpc_port=self.spec.grpc_port, http_port=self.spec.http_port)

    def _change(self, **changes: Any) -> None:
        self.state = self.state.model_copy(update=changes)
        self._on_change()
