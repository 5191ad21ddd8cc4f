"""Models that are HTTP services: a native request with JSON becomes `POST path`.

The request's body is the payload's JSON, the answer's body is the output. Owns the call and
the meaning of HTTP statuses; replicas, retries and health are those of every model.
"""

from __future__ import annotations

import asyncio
import random

import httpx

from gateway.call import Call
from gateway.policy.routing.outliers import Fault
from gateway.upstream.attempts import Attempts, RetryBudgets
from gateway.upstream.endpoints import HttpEndpoint
from gateway.upstream.fleet import HttpModel
from gateway.upstream.metrics import UpstreamMetrics
from gateway.upstream.worker_call import send_initial
from inference_mesh.errors import (
    DeadlineExceededError,
    InternalError,
    InvalidInputError,
    MeshError,
    OverloadedError,
    PayloadMismatchError,
    UnavailableError,
)
from inference_mesh.messages import parsed
from inference_mesh.metadata import MODEL, REQUEST_ID, TENANT, TRACE_PARENT, TRACE_STATE, VERSION
from inference_mesh.v1 import inference_pb2, payload_pb2

LONGEST_REASON = 200
FORWARDED = frozenset({REQUEST_ID, MODEL, VERSION, TENANT, TRACE_PARENT, TRACE_STATE})
UNREACHED = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.RemoteProtocolError,
    httpx.ReadError,
    httpx.WriteError,
)


class HttpServices:
    """Calls HTTP services."""

    def __init__(
        self, metrics: UpstreamMetrics, budgets: RetryBudgets, rng: random.Random, *, max_answer_bytes: int
    ) -> None:
        self._metrics = metrics
        self._budgets = budgets
        self._rng = rng
        self._max_answer_bytes = max_answer_bytes

    async def infer(self, call: Call, model: HttpModel, message: bytes) -> bytes:
        """The answer as a serialised InferResponse. Raises MeshError."""
        document = json_of(message)
        budget = self._budgets.of(call.model)
        attempts = Attempts(call, model.pool, budget, self._metrics, self._rng)
        with attempts.counted():
            while True:
                try:
                    with attempts.next() as endpoint:
                        body = await self._post(call, endpoint, model.path, document)
                    attempts.succeeded()
                    await send_initial(call, ())
                    return _response(call, body)
                except UNREACHED:
                    if not attempts.may_follow(Fault.LOST, is_repeatable=True):
                        raise attempts.unavailable() from None
                except _ServiceUnavailableError as refused:
                    if not attempts.may_follow(Fault.REFUSED, is_repeatable=True):
                        raise UnavailableError(str(refused), retry_after_s=refused.retry_after_s) from None
                except InternalError:
                    attempts.may_follow(Fault.FAILED, is_repeatable=False)
                    raise
                except DeadlineExceededError:
                    attempts.note_if_mute(model.entry.timeout_s)
                    raise

    async def _post(self, call: Call, endpoint: HttpEndpoint, path: str, document: bytes) -> bytes:
        """The body of a good answer. Raises MeshError, _ServiceUnavailableError or an httpx error."""
        headers = {"content-type": "application/json", "accept-encoding": "identity", **_headers(call)}
        timeout = httpx.Timeout(None, connect=1.0)
        try:
            async with (
                asyncio.timeout(call.timeout_s()),
                endpoint.client.stream(
                    "POST", path, content=document, headers=headers, timeout=timeout
                ) as answer,
            ):
                body = await self._body(answer)
        except TimeoutError:
            raise DeadlineExceededError("the deadline passed before the service answered") from None
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise _ServiceUnavailableError(_reason(answer, body), _retry_after_s(answer))
        if not answer.is_success:
            raise error_of_status(answer.status_code, _reason(answer, body), _retry_after_s(answer))
        return body

    async def _body(self, answer: httpx.Response) -> bytes:
        body = bytearray()
        async for chunk in answer.aiter_bytes():
            body += chunk
            if len(body) > self._max_answer_bytes:
                raise InternalError(f"the service's answer is over {self._max_answer_bytes} bytes")
        return bytes(body)


class _ServiceUnavailableError(Exception):
    """The service answered 503."""

    def __init__(self, message: str, retry_after_s: float | None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def json_of(message: bytes) -> bytes:
    """The JSON of a request's payload. Raises InvalidInputError, PayloadMismatchError."""
    request = parsed(inference_pb2.InferRequest, message)
    kind = request.payload.WhichOneof("kind")
    if kind is None:
        raise InvalidInputError("payload: is missing; this model takes json")
    if kind != "json":
        raise PayloadMismatchError(f"payload: is {kind}; this model takes json")
    return request.payload.json


def error_of_status(status: int, reason: str, retry_after_s: float | None) -> MeshError:
    """The error that an HTTP status other than success stands for."""
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return OverloadedError(reason, retry_after_s=retry_after_s or 1.0)
    if status in (httpx.codes.BAD_GATEWAY, httpx.codes.SERVICE_UNAVAILABLE):
        return UnavailableError(reason, retry_after_s=retry_after_s or 1.0)
    if status in (httpx.codes.REQUEST_TIMEOUT, httpx.codes.GATEWAY_TIMEOUT):
        return DeadlineExceededError(reason)
    if httpx.codes.is_client_error(status):
        return InvalidInputError(reason)
    return InternalError(reason)


def _headers(call: Call) -> dict[str, str]:
    return {
        name: value for name, value in call.worker_metadata() if name in FORWARDED and isinstance(value, str)
    }


def _reason(answer: httpx.Response, body: bytes) -> str:
    """What the service says, short and printable; only of errors that are the client's to mend."""
    text = f"the service answered {answer.status_code}"
    if not answer.is_client_error:
        return text
    said = body[: 4 * LONGEST_REASON].decode("utf-8", "replace")[:LONGEST_REASON]
    printable = "".join(character if character.isprintable() else " " for character in said)
    return f"{text}: {printable}" if printable.strip() else text


def _retry_after_s(answer: httpx.Response) -> float | None:
    """Seconds of Retry-After; None if there are none, or it is a date."""
    value = answer.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 6 else None


def _response(call: Call, body: bytes) -> bytes:
    return inference_pb2.InferResponse(
        model=call.model,
        version=call.admitted.version,
        request_id=call.request_id,
        output=payload_pb2.Output(json=body),
    ).SerializeToString()
