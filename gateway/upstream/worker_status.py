"""What the end of a call to a worker means for the client. Pure.

A worker's own status passes on unchanged. One that gRPC made up, because the connection broke
or the time was over, has addresses and library texts in it and is told in our own words.
"""

from __future__ import annotations

import grpc

from gateway.call import WorkerStatusError
from gateway.forwarded_metadata import worker_metadata_for_client
from inference_mesh.errors import DeadlineExceededError, StreamBrokenError, UnavailableError
from inference_mesh.metadata import bytes_of
from inference_mesh.status_interceptor import STATUS_DETAILS

RETRY_HINT_S = 1.0

NOT_AN_ANSWER = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
"""Codes that, without details of the worker, stand for a broken connection.

CANCELLED: a server that stops ends its calls so, and the client's own cancel never comes here.
"""


def is_unavailable(error: grpc.aio.AioRpcError) -> bool:
    """Whether the call may be tried elsewhere."""
    return error.code() is grpc.StatusCode.UNAVAILABLE or is_connection_lost(error)


def is_connection_lost(error: grpc.aio.AioRpcError) -> bool:
    """Whether gRPC made the status up because it could not reach the worker."""
    return error.code() in NOT_AN_ANSWER and not _is_workers_own(error)


def client_error(error: grpc.aio.AioRpcError, model: str, delivered: int) -> Exception:
    """What the client gets for a worker's status.

    delivered: messages that the client already has. Returns a WorkerStatusError or a MeshError.
    """
    if _is_workers_own(error):
        return _unchanged(error)
    if error.code() in NOT_AN_ANSWER:
        return lost_connection(model, delivered)
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceededError("the deadline passed before the answer was complete")
    return _unchanged(error)


def lost_connection(model: str, delivered: int) -> UnavailableError:
    """What the client gets when the connection to the worker is gone."""
    if delivered:
        return StreamBrokenError(
            f"the connection to the worker broke after {delivered} messages", retry_after_s=0.0
        )
    return UnavailableError(f"no replica of model '{model}' can answer now", retry_after_s=RETRY_HINT_S)


def _unchanged(error: grpc.aio.AioRpcError) -> WorkerStatusError:
    trailers = worker_metadata_for_client(tuple(error.trailing_metadata() or ()))
    return WorkerStatusError(error.code(), error.details() or "", trailers)


def _is_workers_own(error: grpc.aio.AioRpcError) -> bool:
    return bytes_of(tuple(error.trailing_metadata() or ()), STATUS_DETAILS) is not None
