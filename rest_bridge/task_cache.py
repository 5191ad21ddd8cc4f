"""What task a model has, remembered for a short time.

A payload's form follows from the task, so the bridge must know it before it can read one. The
task is no secret, but that a model exists is: entries belong to the caller who may see it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from inference_mesh.errors import UnavailableError
from inference_mesh.v1 import payload_pb2
from rest_bridge.upstream import Caller, Upstream

MOST_ENTRIES = 10_000


class TaskCache:
    """Tasks of models as the gateway told them, each at most `ttl_s` old."""

    def __init__(self, upstream: Upstream, ttl_s: float) -> None:
        self._upstream = upstream
        self._ttl_s = ttl_s
        self._entries: OrderedDict[tuple[bytes, str], tuple[float, payload_pb2.Task]] = OrderedDict()

    async def task_of(self, model: str, caller: Caller) -> payload_pb2.Task:
        """The model's task. Raises what the gateway answers, and UnavailableError if nobody knows it."""
        key = (caller.digest, model)
        now = asyncio.get_running_loop().time()
        entry = self._entries.get(key)
        if entry is not None and now < entry[0]:
            return entry[1]
        task = (await self._upstream.model(model, "", caller)).task
        if task == payload_pb2.TASK_UNSPECIFIED:
            # The gateway learns the task from a replica that answers, and there is none.
            raise UnavailableError(f"model '{model[:64]}' has no replica that answers", retry_after_s=1.0)
        self._entries[key] = (now + self._ttl_s, task)
        self._entries.move_to_end(key)
        if len(self._entries) > MOST_ENTRIES:
            self._entries.popitem(last=False)
        return task

    def forget(self, model: str, caller: Caller) -> None:
        """Ask again the next time: the model is not what it was."""
        self._entries.pop((caller.digest, model), None)
