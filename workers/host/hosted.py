"""One model of a host: where it is, who waits for it, who is with it.

Owns the state of one model and the rule who may wait. Loading and unloading is the keeper's.
"""

from __future__ import annotations

import asyncio
import time

from inference_mesh.errors import MeshError, ModelNotReadyError, OverloadedError, UnavailableError
from workers.host.host_file import HostedModel
from workers.host.metrics import HostMetrics
from workers.host.process import ModelProcess
from workers.host.residency import Phase, Resident

SMOOTHING = 0.3
TYPICAL_LOAD_S = 5.0
"""How long a load is taken to last before the first one ended."""

ROOM_FOR_RUNTIME = 200 << 20
"""What a worker takes beside its files: Python, gRPC, buffers."""


class Hosted:
    """A model and its worker, if it has one now."""

    def __init__(self, model: HostedModel, metrics: HostMetrics) -> None:
        self.model = model
        self.process: ModelProcess | None = None
        self.phase = Phase.COLD
        self.in_flight = 0
        self.waiting = 0
        self.used_at_s = 0.0
        self.size_bytes = model.memory_bytes or _size_of(model) + ROOM_FOR_RUNTIME
        self.failure: MeshError | None = None
        self.retry_at_s = 0.0
        self.load_s = TYPICAL_LOAD_S
        self.loads = 0
        """How often it was loaded."""
        self.changed = asyncio.Event()
        """Set, and replaced, whenever the phase changes."""
        self.crashes = 0
        """In a row, each soon after its load."""
        self.is_quiet = asyncio.Event()
        """Set while its worker answers no call."""
        self.is_quiet.set()
        self._metrics = metrics
        self._load_began_s = 0.0
        metrics.phase(model.name, self.phase)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model.name

    def resident(self) -> Resident:
        """The model as the rule of residency sees it."""
        return Resident(
            self.name, self.phase, self.size_bytes, self.used_at_s, self.in_flight, self.model.pinned
        )

    def enter(self, phase: Phase) -> None:
        """Be in this phase from now on, and tell who waits."""
        self.phase = phase
        self._metrics.phase(self.name, phase)
        if phase is Phase.LOADING:
            self._load_began_s = time.monotonic()
        self.changed.set()
        self.changed = asyncio.Event()

    def note_load(self, seconds: float) -> None:
        """A load took so long."""
        self.loads += 1
        self.load_s += SMOOTHING * (seconds - self.load_s)

    def check_may_wait(self, most: int) -> None:
        """Raises OverloadedError if too many wait, and why the model failed just now, if it did."""
        self.check_failure()
        if self.waiting >= most:
            raise OverloadedError(
                f"{self.waiting} calls wait for model '{self.name}' to load", retry_after_s=self.left_s()
            )

    def check_failure(self) -> None:
        """Raises why the model failed, while it is not to be tried again."""
        left_s = self.retry_at_s - time.monotonic()
        if self.failure is None or left_s <= 0:
            return
        # A new one each time: an exception that is raised again keeps every frame it passed.
        if isinstance(self.failure, UnavailableError):
            raise UnavailableError(self.failure.message, retry_after_s=left_s)
        raise ModelNotReadyError(self.failure.message)

    def fail(self, error: MeshError, retry_s: float) -> None:
        """It cannot be asked for so long."""
        self.failure = error
        self.retry_at_s = time.monotonic() + retry_s
        self.enter(Phase.FAILED)

    def left_s(self) -> float:
        """When it will probably be loaded, in seconds from now; from how long it took before."""
        if self.phase is not Phase.LOADING:
            return max(0.1, self.load_s)
        return max(0.1, self.load_s - (time.monotonic() - self._load_began_s))

    def count(self, *, waiting: int = 0, in_flight: int = 0) -> None:
        """Add to who waits and who is served."""
        self.waiting += waiting
        self.in_flight += in_flight
        if self.in_flight:
            self.is_quiet.clear()
        else:
            self.is_quiet.set()
        self._metrics.calls(self.name, waiting=self.waiting, in_flight=self.in_flight)


def _size_of(model: HostedModel) -> int:
    """Bytes of the model's files; 0 if they are not there, which its load will say."""
    path = model.model
    files = [path] if path.is_file() else path.rglob("*") if path.is_dir() else []
    return sum(file.stat().st_size for file in files if file.is_file())
