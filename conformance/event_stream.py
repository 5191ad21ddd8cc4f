"""Server-sent events, read to their end: what their data are, without when they came.

Source: WHATWG HTML, "Server-sent events".
"""

from __future__ import annotations

import dataclasses

import httpx

from conformance.checks import expect
from conformance.http_answers import expect_status


@dataclasses.dataclass(frozen=True, slots=True)
class EventStream:
    """content_type: of the answer. events: the data of each, in order."""

    content_type: str
    events: list[str]


def event_stream_of(response: httpx.Response) -> EventStream:
    """The events of an answer that was read. Raises BreachError if it is a refusal or has none."""
    expect_status(response, 200)
    stream = EventStream(response.headers.get("content-type", ""), events_of(response.content))
    expect(stream.events, "there is no event in the body")
    return stream


def events_of(body: bytes) -> list[str]:
    """The data of each event; comments and other fields are left out.

    A last event without its empty line counts, as clients take it.
    """
    events: list[str] = []
    data: list[str] = []
    # Of bytes, only CR and LF end a line; of text, so would U+2028, which JSON may hold.
    for line in [*body.splitlines(), b""]:
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" ").decode())
        elif not line and data:
            events.append("\n".join(data))
            data = []
    return events
