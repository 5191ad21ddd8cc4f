"""The one place where errors become HTTP answers.

Handlers raise MeshError; here it becomes an answer with the HTTP status of its gRPC code, in the
form of the path's dialect. Paths and methods that do not exist get the same form. What is not
mapped becomes 500 "internal error" and a line in the log.
"""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from inference_mesh import telemetry
from inference_mesh.asgi_limits import AsgiApp, Message, Receive, Scope, Send
from inference_mesh.errors import CancelledByCallerError, InternalError, MeshError
from rest_bridge import error_forms

log = telemetry.get_logger(__name__)


class HttpRefusalError(Exception):
    """A request that HTTP itself refuses: no such path, method or content type."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Problems:
    """An application whose exceptions become answers."""

    def __init__(self, app: AsgiApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; answer for it if it raises before it has answered."""
        is_answered = False

        async def watched_send(message: Message) -> None:
            nonlocal is_answered
            is_answered = True
            await send(message)

        try:
            await self._app(scope, receive, watched_send)
        except Exception as error:
            if is_answered:
                raise
            await _send(answer_of(scope["path"], error), send)


def answer_of(path: str, error: Exception) -> error_forms.Answer:
    """Status, headers and body of any exception, in the form of the path's dialect."""
    request_id = telemetry.current_request_id.get()
    if isinstance(error, HttpRefusalError):
        return error_forms.answer_of_status(path, error.status, error.message, request_id)
    if isinstance(error, HTTPException):
        return _answer_of_routing(path, error, request_id)
    return error_forms.answer_of_error(path, mesh_error_of(error), request_id)


def mesh_error_of(error: Exception) -> MeshError:
    """The error itself if a caller may see it; else "internal error", and the log has it."""
    if isinstance(error, MeshError):
        return error
    if isinstance(error, ClientDisconnect):
        return CancelledByCallerError("the client left")
    log.exception("unmapped exception", exception=type(error).__name__)
    return InternalError()


async def send_error(error: MeshError, scope: Scope, send: Send) -> None:
    """Answer with an error."""
    await _send(answer_of(scope["path"], error), send)


def _answer_of_routing(path: str, error: HTTPException, request_id: str) -> error_forms.Answer:
    message = {404: "no such path", 405: "no such method for this path"}.get(error.status_code, error.detail)
    status, headers, body = error_forms.answer_of_status(path, error.status_code, message, request_id)
    for name, value in (error.headers or {}).items():
        headers.append((name.lower().encode(), value.encode()))
    return status, headers, body


async def _send(answer: error_forms.Answer, send: Send) -> None:
    status, headers, body = answer
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
