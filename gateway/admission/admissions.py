"""The queues of all targets.

Owns which there are: one for each version of each model that was asked for. How many calls a
target can hold, its pool of replicas says.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from gateway.admission.admission_queue import AdmissionQueue
from gateway.admission.metrics import AdmissionMetrics
from gateway.policy.facts import Priority
from inference_mesh.config.model_traffic import QueueSpec
from inference_mesh.config.models_file import ModelEntry


class Admissions:
    """Owns the queues by model and version."""

    def __init__(self, metrics: AdmissionMetrics, rng: random.Random) -> None:
        self._metrics = metrics
        self._rng = rng
        self._specs: dict[str, QueueSpec] = {}
        self._queues: dict[str, dict[str, AdmissionQueue]] = {}

    def of(self, model: str, version: str) -> AdmissionQueue:
        """The queue of a target of the registry."""
        queues = self._queues.get(model)
        if queues is None:
            queues = self._queues[model] = {}
            self._metrics.watch(model, lambda priority: self._depth(model, priority))
        queue = queues.get(version)
        if queue is None:
            spec = self._specs.get(model) or QueueSpec()
            queue = queues[version] = AdmissionQueue(model, spec, self._metrics, self._rng)
        return queue

    def resize(self, model: str, version: str, capacity: int) -> None:
        """Have so many calls in flight at a target; 0 = it has no replica that is ready."""
        self.of(model, version).resize(capacity)

    def keep_only(self, entries: Sequence[ModelEntry]) -> None:
        """Apply a registry: the queues of its targets stay, the others end.

        Who waits for a target that is no more passes through, and is told by whom it asks.
        """
        self._specs = {entry.name: _spec(entry) for entry in entries}
        targets = {entry.name: {one.version for one in entry.variants} for entry in entries}
        for model, queues in list(self._queues.items()):
            for version in [one for one in queues if one not in targets.get(model, ())]:
                queues.pop(version).resize(0)
            for queue in queues.values():
                queue.configure(self._specs[model])
            if model not in targets:
                del self._queues[model]
        self._metrics.forget_all_but(frozenset(self._queues))

    def _depth(self, model: str, priority: Priority) -> int:
        return sum(queue.depth_of(priority) for queue in self._queues.get(model, {}).values())


def _spec(entry: ModelEntry) -> QueueSpec:
    """The queue of an entry, in which no call waits past the longest call."""
    longest_s = min(entry.queue.max_wait_s, entry.timeout_s)
    return entry.queue.model_copy(update={"max_wait_s": longest_s})
