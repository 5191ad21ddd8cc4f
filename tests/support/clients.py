"""The public client in either form, so that one test can ask both."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import pytest

from inference_mesh.client import MeshClient, SyncMeshClient
from inference_mesh.v1 import inference_pb2

Form = type[MeshClient] | type[SyncMeshClient]

both_forms = pytest.mark.parametrize("form", [MeshClient, SyncMeshClient])


class InThreads:
    """A SyncMeshClient that is used as the other form is: each step runs in a thread."""

    def __init__(self, client: SyncMeshClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *values, **named: asyncio.to_thread(method, *values, **named)

    async def stream(self, *values: Any, **named: Any) -> AsyncGenerator[inference_pb2.InferStreamResponse]:
        """The pieces; closing this closes the client's iterator."""
        pieces = self._client.stream(*values, **named)
        try:
            while (piece := await asyncio.to_thread(next, pieces, None)) is not None:
                yield piece
        finally:
            await asyncio.to_thread(pieces.close)


@contextlib.asynccontextmanager
async def client_of(form: Form, target: str, **settings: Any) -> AsyncIterator[Any]:
    """A client of this form, closed with the block; its calls are awaited in either form."""
    if form is MeshClient:
        async with MeshClient(target, **settings) as client:
            yield client
    else:
        with SyncMeshClient(target, **settings) as client:
            yield InThreads(client)
