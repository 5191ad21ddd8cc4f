"""Work that ends when nobody waits for its result any more.

Owns the watch on the client's connection and on the bridge's own end. Cancelling the block
cancels the gRPC call in it, and with it the work of gateway and worker.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from inference_mesh.asgi_limits import Receive
from inference_mesh.errors import CancelledByCallerError, MeshError, ShuttingDownError


@contextlib.asynccontextmanager
async def while_wanted(receive: Receive, cut_off: asyncio.Event) -> AsyncIterator[None]:
    """A block that is cancelled as soon as the client leaves or the bridge must end.

    receive: of a request whose body is read. Raises CancelledByCallerError or
    ShuttingDownError then, else what the block raises.
    """
    end = _End()
    failure: BaseException | None = None
    # The group would wrap what the block raises, so that is carried out of it by hand.
    async with asyncio.TaskGroup() as watches:
        watchers = [
            watches.create_task(end.when_gone(receive)),
            watches.create_task(end.when_cut_off(cut_off)),
        ]
        try:
            async with end.scope:
                yield
        except Exception as error:  # noqa: BLE001 - carried out of the group, and raised there
            failure = error
        finally:
            for watcher in watchers:
                watcher.cancel()
    if end.scope.expired() and end.reason is not None:
        raise end.reason
    if failure is not None:
        raise failure


class _End:
    """A scope that watchers can end, and why they did."""

    def __init__(self) -> None:
        self.scope = asyncio.timeout(None)
        self.reason: MeshError | None = None

    async def when_gone(self, receive: Receive) -> None:
        """End the scope when the client's connection is closed."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._end(CancelledByCallerError("the client left"))

    async def when_cut_off(self, cut_off: asyncio.Event) -> None:
        """End the scope when the bridge can wait no longer."""
        await cut_off.wait()
        self._end(ShuttingDownError("the bridge is shutting down", retry_after_s=1.0))

    def _end(self, reason: MeshError) -> None:
        if self.reason is None:  # a scope that ends already takes no second end
            self.reason = reason
            self.scope.reschedule(asyncio.get_running_loop().time())
