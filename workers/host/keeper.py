"""Brings models into memory when they are asked for, and takes others out.

Owns the order of loads: one at a time, in the order in which models were first asked for. However
many ask for a model, it is loaded once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from inference_mesh import telemetry
from inference_mesh.background import Background
from inference_mesh.errors import (
    DeadlineExceededError,
    MeshError,
    ModelNotFoundError,
    ModelNotReadyError,
    ShuttingDownError,
    UnavailableError,
)
from workers.cgroup import memory_limit_bytes
from workers.host.host_file import HostedModel
from workers.host.hosted import Hosted
from workers.host.metrics import HostMetrics
from workers.host.process import ModelProcess
from workers.host.residency import IN_MEMORY, Budget, Phase, idle_models, room_for
from workers.host.settings import HostSettings

log = telemetry.get_logger(__name__)

IDLE_CHECK_S = 1.0
SHARE_OF_MEMORY = 0.9
SOUND_AFTER_S = 60.0
"""A worker that lived so long has not died of its model."""

CRASH_RETRY_S = 1.0
LONGEST_CRASH_RETRY_S = 60.0


class Keeper:
    """The models of one host."""

    def __init__(self, models: Sequence[HostedModel], settings: HostSettings, metrics: HostMetrics) -> None:
        self._hosted = {model.name: Hosted(model, metrics) for model in models}
        self._settings = settings
        self._budget = Budget(settings.memory_bytes or default_budget_bytes(), settings.max_loaded)
        self._metrics = metrics
        self._wanted: dict[str, None] = {}
        self._news = asyncio.Event()
        self._is_closing = False
        self._background = Background()

    @property
    def hosted(self) -> Mapping[str, Hosted]:
        """The models by name."""
        return self._hosted

    async def start(self) -> None:
        """Begin to serve; pinned models are wanted at once."""
        await self._background.open()
        self._background.spawn("load models", self._load_wanted)
        self._background.spawn("unload idle models", self._unload_idle)
        for hosted in self._hosted.values():
            if hosted.model.pinned:
                self._want(hosted)

    async def close(self) -> None:
        """Stop every worker, all at a time; who waits for a model is refused."""
        self._is_closing = True
        for hosted in self._hosted.values():
            hosted.enter(hosted.phase)
        await self._background.close()
        processes = [one.process for one in self._hosted.values() if one.process is not None]
        await asyncio.gather(*(process.stop() for process in processes))

    @contextlib.asynccontextmanager
    async def model(self, name: str, deadline: float | None) -> AsyncIterator[ModelProcess]:
        """The model's worker, loaded; it stays as long as the block lasts.

        deadline: of the event loop's clock; None = none. Raises ModelNotFoundError, OverloadedError,
        ModelNotReadyError, UnavailableError, ShuttingDownError, and DeadlineExceededError.
        """
        hosted = self.find(name)
        hosted.used_at_s = time.monotonic()
        if hosted.phase is not Phase.READY:
            await self._wait_until_ready(hosted, deadline)
        process = hosted.process
        if process is None:
            raise UnavailableError(f"model '{name}' is being loaded", retry_after_s=hosted.left_s())
        hosted.count(in_flight=1)
        try:
            yield process
        finally:
            hosted.count(in_flight=-1)
            hosted.used_at_s = time.monotonic()
            self._news.set()

    def find(self, name: str) -> Hosted:
        """The model of this name. Raises ModelNotFoundError."""
        hosted = self._hosted.get(name)
        if hosted is None:
            raise ModelNotFoundError(f"model '{name[:64]}' is not served here")
        return hosted

    async def unload(self, name: str) -> None:
        """Take a model out of memory once its calls have ended. Asked for again, it is loaded again."""
        hosted = self.find(name)
        if hosted.phase is Phase.READY:
            await self._unload(hosted, "asked")

    async def _wait_until_ready(self, hosted: Hosted, deadline: float | None) -> None:
        hosted.check_may_wait(self._settings.max_waiting)
        hosted.count(waiting=1)
        try:
            async with asyncio.timeout_at(deadline):
                while hosted.phase is not Phase.READY:
                    if self._is_closing:
                        raise ShuttingDownError("this worker host is shutting down")
                    hosted.check_failure()
                    changed = hosted.changed
                    self._want(hosted)
                    await changed.wait()
        except TimeoutError:
            raise DeadlineExceededError("the deadline passed while the model was loading") from None
        finally:
            hosted.count(waiting=-1)

    def _want(self, hosted: Hosted) -> None:
        if hosted.phase not in IN_MEMORY:
            self._wanted.setdefault(hosted.name)
            self._news.set()

    async def _load_wanted(self) -> None:
        """Load what is wanted, one after the other; where there is no room, wait until something changes."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._wanted and await self._load_next():
                pass

    async def _load_next(self) -> bool:
        """Load the model that was wanted first. False = it has to wait, and keeps its turn."""
        hosted = self._hosted[next(iter(self._wanted))]
        is_wanted = hosted.waiting or hosted.model.pinned
        if hosted.phase in IN_MEMORY or not is_wanted:
            del self._wanted[hosted.name]
            return True
        room = room_for(hosted.resident(), [one.resident() for one in self._hosted.values()], self._budget)
        for name in room.leaving:
            await self._unload(self._hosted[name], "room")
        if not room.fits and not room.never:
            return False
        del self._wanted[hosted.name]
        if room.never:
            self._fail(hosted, self._too_large(hosted), self._settings.retry_load_s)
        else:
            await self._load(hosted)
        return True

    def _too_large(self, hosted: Hosted) -> MeshError:
        pinned = [one for one in self._hosted.values() if one.model.pinned and one is not hosted]
        left = self._budget.size_bytes - sum(one.size_bytes for one in pinned)
        return ModelNotReadyError(
            f"model '{hosted.name}' takes {hosted.size_bytes} bytes; of {self._budget.size_bytes} "
            f"the {len(pinned)} pinned models leave {left}"
        )

    async def _load(self, hosted: Hosted) -> None:
        settings = self._settings
        hosted.enter(Phase.LOADING)
        process = ModelProcess(hosted.model, settings.max_message_bytes, settings.grace_s)
        started = time.monotonic()
        try:
            await process.start(settings.load_timeout_s)
        except ModelNotReadyError as error:
            await process.stop()
            self._metrics.load_failed(hosted.name)
            self._fail(hosted, error, settings.retry_load_s)
            return
        except BaseException:
            await process.stop()
            raise
        hosted.process = process
        hosted.note_load(time.monotonic() - started)
        hosted.size_bytes = hosted.model.memory_bytes or resident_bytes(process.pid) or hosted.size_bytes
        self._metrics.loaded(hosted.name, time.monotonic() - started)
        self._metrics.resident(hosted.name, hosted.size_bytes)
        log.info("model loaded", model=hosted.name, bytes=hosted.size_bytes, pid=process.pid)
        hosted.failure = None
        hosted.enter(Phase.READY)
        self._background.spawn(f"watch {hosted.name}", lambda: self._watch(hosted, process, time.monotonic()))

    def _fail(self, hosted: Hosted, error: MeshError, retry_s: float) -> None:
        log.error("model not loaded", model=hosted.name, reason=error.message)
        hosted.fail(error, retry_s)
        if hosted.model.pinned:
            self._background.spawn(f"retry {hosted.name}", lambda: self._want_later(hosted, retry_s))

    async def _want_later(self, hosted: Hosted, seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._want(hosted)

    async def _watch(self, hosted: Hosted, process: ModelProcess, loaded_at_s: float) -> None:
        """Notice that a worker ended by itself; each time soon after its load it may come back later."""
        code = await process.ended()
        if hosted.process is not process or self._is_closing:
            return
        log.error("worker died", model=hosted.name, code=code)
        hosted.process = None
        await process.stop()
        hosted.crashes = hosted.crashes + 1 if time.monotonic() - loaded_at_s < SOUND_AFTER_S else 1
        self._left(hosted, "crashed")
        if hosted.crashes > 1:
            retry_s = min(CRASH_RETRY_S * 2 ** (hosted.crashes - 2), LONGEST_CRASH_RETRY_S)
            hosted.fail(UnavailableError(f"the worker of model '{hosted.name}' died"), retry_s)
            await asyncio.sleep(retry_s)
        if hosted.model.pinned:
            self._want(hosted)

    async def _unload(self, hosted: Hosted, reason: str) -> None:
        process, hosted.process = hosted.process, None
        hosted.enter(Phase.UNLOADING)
        await hosted.is_quiet.wait()  # calls that came before it was to leave
        if process is not None:
            await process.stop()
        log.info("model unloaded", model=hosted.name, reason=reason)
        self._left(hosted, reason)

    def _left(self, hosted: Hosted, reason: str) -> None:
        self._metrics.unloaded(hosted.name, reason)
        self._metrics.resident(hosted.name, 0)
        hosted.enter(Phase.COLD)
        self._news.set()

    async def _unload_idle(self) -> None:
        while True:
            await asyncio.sleep(IDLE_CHECK_S)
            residents = [one.resident() for one in self._hosted.values()]
            for name in idle_models(residents, time.monotonic(), self._settings.idle_unload_s):
                await self._unload(self._hosted[name], "idle")


def default_budget_bytes() -> int:
    """What models may take where nothing is said."""
    return int(memory_limit_bytes() * SHARE_OF_MEMORY)


def resident_bytes(pid: int) -> int:
    """Memory of a process, with its share of what it has in common with others; 0 = unknown."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    for line in text.splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0
