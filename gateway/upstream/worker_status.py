"""What the end of a call to a worker means for the client and for the replica. Pure.

A worker's own status passes on unchanged. One that gRPC made up, because the connection broke
or the time was over, has addresses and library texts in it and is told in our own words.
"""

from __future__ import annotations

import grpc

from gateway.call import Call, WorkerStatusError
from gateway.forwarded_metadata import worker_metadata_for_client
from gateway.policy.routing.outliers import Fault
from inference_mesh.error_status import STATUS_DETAILS
from inference_mesh.errors import DeadlineExceededError, StreamBrokenError, UnavailableError
from inference_mesh.metadata import bytes_of

RETRY_HINT_S = 1.0

NOT_AN_ANSWER = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
"""Codes that, without details of the worker, stand for a broken connection.

CANCELLED: a server that stops ends its calls so, and the client's own cancel never comes here.
"""
NOT_THIS_CALL = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAUTHENTICATED})
"""Codes of a worker that another one may not have. UNAUTHENTICATED: it means the gateway, not the caller."""
DEFECTS = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS})
"""Codes of a worker that is not well; no request should be able to cause them."""


def fault_of(error: grpc.aio.AioRpcError) -> Fault | None:
    """What the status says of the replica; None if nothing is wrong with it."""
    if error.code() in NOT_AN_ANSWER and not error.trailing_metadata():
        return Fault.LOST  # a broken connection has no trailers
    if error.code() in NOT_THIS_CALL:
        return Fault.REFUSED
    if error.code() is grpc.StatusCode.CANCELLED and not _is_workers_own(error):
        return Fault.REFUSED
    return Fault.FAILED if error.code() in DEFECTS else None


def client_error(error: grpc.aio.AioRpcError, call: Call) -> Exception:
    """What the client gets for a worker's status: a WorkerStatusError or a MeshError."""
    is_own = _is_workers_own(error)
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        return lost_connection(call)
    if error.code() in NOT_AN_ANSWER and (call.delivered or not is_own):
        return lost_connection(call)
    if error.code() in DEFECTS and call.delivered and not is_own:
        return lost_connection(call)  # as where the stream was reset, and gRPC found a code for it
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not is_own:
        return DeadlineExceededError("the deadline passed before the answer was complete")
    trailers = worker_metadata_for_client(tuple(error.trailing_metadata() or ()))
    return WorkerStatusError(error.code(), error.details() or "", trailers)


def lost_connection(call: Call) -> UnavailableError:
    """What the client gets when nobody works on the call any more."""
    if call.delivered_tokens:
        return broken_after(f"{call.delivered_tokens} tokens")
    if call.delivered:
        return broken_after(f"{call.delivered} messages")
    return UnavailableError(f"no replica of model '{call.model}' can answer now", retry_after_s=RETRY_HINT_S)


def broken_after(delivered: str) -> StreamBrokenError:
    """What the client gets when a stream broke and nobody could go on with it."""
    return StreamBrokenError(f"the connection to the worker broke after {delivered}", retry_after_s=0.0)


def _is_workers_own(error: grpc.aio.AioRpcError) -> bool:
    return bytes_of(tuple(error.trailing_metadata() or ()), STATUS_DETAILS) is not None
