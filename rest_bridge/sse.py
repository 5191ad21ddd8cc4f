"""Server-sent events as bytes. Source: WHATWG HTML, 9.2 Server-sent events."""

from __future__ import annotations

from inference_mesh import strict_json

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    # Else ingress-nginx gathers events instead of passing them on.
    (b"x-accel-buffering", b"no"),
]
DONE = b"data: [DONE]\n\n"


def event(document: object) -> bytes:
    """One event with a JSON document; JSON has no line breaks, so it is one line."""
    return b"data: " + strict_json.dumps(document) + b"\n\n"


def error_event(body: bytes) -> bytes:
    """The event named "error" with the body that an HTTP answer would have had."""
    return b"event: error\ndata: " + body + b"\n\n"
