"""What the processes themselves say: their /readyz, while they start and from another shell."""

from __future__ import annotations

import asyncio
import dataclasses
import http.client
import json
from concurrent.futures import ThreadPoolExecutor

from mesh_cli.child import Child
from mesh_cli.state import MeshState, ServiceState, Status

TIMEOUT_S = 2.0
POLL_S = 0.05


@dataclasses.dataclass(frozen=True, slots=True)
class Readiness:
    """An answer of /readyz. problem: why it is not ready; empty if it is.

    is_final: it will not become ready by itself, e.g. the model could not be loaded.
    """

    is_ready: bool
    problem: str = ""
    is_final: bool = False


READY = Readiness(True)


async def wait_settled(child: Child) -> Readiness | None:
    """What the process says once it is ready or has failed for good; None if it ended before."""
    port = await child.wait_listening()
    while port is not None and not child.has_ended:
        readiness = await asyncio.to_thread(ask_readiness, port)
        if readiness.is_ready or readiness.is_final:
            return readiness
        await child.pause(POLL_S)
    return None


def with_readiness(state: MeshState) -> MeshState:
    """The state with the reason of each process that is not ready at this moment."""
    with ThreadPoolExecutor(max_workers=16) as pool:
        return state.model_copy(update={"services": tuple(pool.map(_checked, state.services))})


def ask_readiness(port: int, timeout_s: float = TIMEOUT_S) -> Readiness:
    """What the process at a port of this machine says."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        body = answer.read(64 * 1024)
    except (OSError, http.client.HTTPException) as error:
        return Readiness(False, f"does not answer /readyz: {str(error) or type(error).__name__}")
    finally:
        connection.close()
    return READY if answer.status == 200 else readiness_of(body)


def readiness_of(body: bytes) -> Readiness:
    """The meaning of an answer other than 200.

    A worker gives its reason by that name; any other than that it is still loading is final.
    """
    try:
        detail = json.loads(body)["detail"]
        told = {str(key): str(value) for key, value in detail.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return Readiness(False, "not ready")
    reason = told.get("reason")
    if reason is None:
        return Readiness(False, "; ".join(f"{key}: {value}" for key, value in told.items()) or "not ready")
    return Readiness(False, reason, is_final="loading" not in reason)


def _checked(service: ServiceState) -> ServiceState:
    if service.status is not Status.READY or not service.http_port:
        return service
    readiness = ask_readiness(service.http_port)
    return service if readiness.is_ready else service.model_copy(update={"reason": readiness.problem})
