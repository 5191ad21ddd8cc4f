"""The supervisor behind `mesh up`: all processes of a mesh, from start to an orderly stop.

Owns the order of the stop, the state file and the gateway's registry. One service's own
life is `supervised_service`'s.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence

from mesh_cli.errors import FailedError
from mesh_cli.plan import HOST, Plan, ServiceSpec, registry_text
from mesh_cli.process_identity import start_mark
from mesh_cli.restart_policy import RestartPolicy
from mesh_cli.state import Kind, MeshState, StateFolder, Status, write_atomically
from mesh_cli.supervised_service import SupervisedService

KILL_MARGIN_S = 2.0
"""A process ends its calls within the grace, then it still has to close and to flush."""

STOP_ORDER: tuple[Kind, ...] = ("bridge", "gateway", "worker")


class Supervisor:
    """Runs every process of a plan until it is told to stop."""

    def __init__(
        self,
        plan: Plan,
        folder: StateFolder,
        *,
        config: str,
        policy: RestartPolicy,
        grace_s: float,
        on_change: Callable[[MeshState], None],
    ) -> None:
        """grace_s: that each process gives its running calls. on_change: sees every new state."""
        self._plan = plan
        self._folder = folder
        self._config = config
        self._grace_s = grace_s
        self._on_change = on_change
        self._started_at = time.time()
        self._registry = ""
        self._last: MeshState | None = None
        self._start_mark = start_mark(os.getpid())
        self._hopeless = asyncio.Event()
        self._services = [SupervisedService(spec, folder, policy, self._changed) for spec in plan.services]

    @property
    def state(self) -> MeshState:
        """The mesh as it is now."""
        ports = {spec.kind: spec for spec in self._plan.services}
        return MeshState(
            pid=os.getpid(),
            start_mark=self._start_mark,
            started_at=self._started_at,
            config=self._config,
            target=f"{HOST}:{ports['gateway'].grpc_port}",
            url=f"http://{HOST}:{ports['bridge'].http_port}",
            services=tuple(service.state for service in self._services),
        )

    async def run(self, stopping: asyncio.Event, killing: asyncio.Event) -> None:
        """Keep the mesh running until `stopping`, then stop in order; `killing` cuts that short.

        Raises FailedError, once everything is stopped, if the mesh cannot serve: the gateway, the
        bridge or every worker has failed.
        """
        self._changed()
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(service.run()) for service in self._services]
            watching = group.create_task(self._hopeless.wait())
            stop_asked = group.create_task(stopping.wait())
            await asyncio.wait({watching, stop_asked}, return_when=asyncio.FIRST_COMPLETED)
            watching.cancel()
            stop_asked.cancel()
            await self._stop(killing)
            await asyncio.wait(running)
        if self._hopeless.is_set():
            raise FailedError(_why_hopeless(self.state))

    async def _stop(self, killing: asyncio.Event) -> None:
        for service in self._services:
            service.stop_restarting()
        async with asyncio.TaskGroup() as group:
            orderly = group.create_task(self._stop_in_order())
            kill_asked = group.create_task(killing.wait())
            await asyncio.wait({orderly, kill_asked}, return_when=asyncio.FIRST_COMPLETED)
            if not orderly.done():
                for service in self._services:
                    service.kill()
            await orderly
            kill_asked.cancel()

    async def _stop_in_order(self) -> None:
        """Who takes calls stops before who answers them."""
        for kind in STOP_ORDER:
            async with asyncio.TaskGroup() as group:
                for service in self._services:
                    if service.spec.kind == kind:
                        group.create_task(service.stop(self._grace_s + KILL_MARGIN_S))

    def _changed(self) -> None:
        self._write_registry([service.spec for service in self._services])
        state = self.state
        if state != self._last:
            self._last = state
            self._folder.write(state)
            self._on_change(state)
        if _is_hopeless(state):
            self._hopeless.set()

    def _write_registry(self, specs: Sequence[ServiceSpec]) -> None:
        text = registry_text(self._plan.models, specs)
        if text != self._registry:
            self._registry = text
            write_atomically(self._folder.models_file, text)


def _is_hopeless(state: MeshState) -> bool:
    """True if nothing can be served any more: a kind of process has none left that has not failed."""
    alive = {service.kind for service in state.services if service.status is not Status.FAILED}
    return alive != {"worker", "gateway", "bridge"}


def _why_hopeless(state: MeshState) -> str:
    failed = [service for service in state.services if service.status is Status.FAILED]
    lines = [f"  {service.name}: {service.reason} (log: {service.log})" for service in failed]
    return "\n".join(["the mesh cannot serve and was stopped:", *lines])
