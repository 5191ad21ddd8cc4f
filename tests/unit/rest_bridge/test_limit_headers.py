from __future__ import annotations

import pytest

from inference_mesh import limit_standing
from inference_mesh.limit_standing import LimitStanding
from rest_bridge.gateway_notes import GatewayNotes
from rest_bridge.limit_headers import LARGEST_INTEGER, duration_text, limit_headers

REQUESTS = LimitStanding("key:ab12:requests", "requests", 10, 7, 2.0, 0.6)
TENANT_TOKENS = LimitStanding("tenant:acme:tokens", "tokens", 1000, 640, 60, 12.5)
DAY_TOKENS = LimitStanding("tenant:acme/tiny-chat:tokens", "tokens", 100_000, 99, 86_400, 4000)
CALLS = LimitStanding("model:tiny-chat:concurrency", "concurrency", 4, 1, 0, 0)


def headers_for(*standings: LimitStanding) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in limit_headers(standings)}


def test_without_limits_there_are_no_headers() -> None:
    assert headers_for() == {}


def test_openai_clients_read_the_limit_with_the_least_left_of_each_kind() -> None:
    headers = headers_for(REQUESTS, TENANT_TOKENS, DAY_TOKENS)
    assert headers["x-ratelimit-limit-requests"] == "10"
    assert headers["x-ratelimit-remaining-requests"] == "7"
    assert headers["x-ratelimit-reset-requests"] == "600ms"
    assert headers["x-ratelimit-limit-tokens"] == "100000"
    assert headers["x-ratelimit-remaining-tokens"] == "99"
    assert headers["x-ratelimit-reset-tokens"] == "1h6m40s"


def test_a_kind_without_a_limit_has_no_header() -> None:
    assert not [name for name in headers_for(CALLS) if name.startswith("x-ratelimit")]


def test_the_ietf_headers_name_every_limit() -> None:
    headers = headers_for(REQUESTS, TENANT_TOKENS, CALLS)
    assert headers["ratelimit-policy"] == (
        '"key:ab12:requests";q=10;w=2, '
        '"tenant:acme:tokens";q=1000;qu="tokens";w=60, '
        '"model:tiny-chat:concurrency";q=4;qu="concurrent-requests"'
    )
    assert headers["ratelimit"] == (
        '"key:ab12:requests";r=7;t=1, "tenant:acme:tokens";r=640;t=13, "model:tiny-chat:concurrency";r=1'
    )


def test_what_is_left_is_rounded_down_and_when_it_is_back_up() -> None:
    headers = headers_for(LimitStanding("n", "tokens", 10.9, 0.9, 1.5, 0.0001))
    assert headers["ratelimit"] == '"n";r=0;t=1'
    assert headers["ratelimit-policy"] == '"n";q=10;qu="tokens";w=2'
    assert headers["x-ratelimit-reset-tokens"] == "1ms"


def test_a_window_below_a_second_is_not_told_as_a_whole_one() -> None:
    assert "w=" not in headers_for(LimitStanding("n", "requests", 10, 1, 0.1, 0.05))["ratelimit-policy"]


def test_a_limit_that_stands_alone_without_redis_says_so() -> None:
    degraded = LimitStanding("n", "tokens", 10, 1, 60, 5, is_degraded=True)
    assert headers_for(degraded)["ratelimit"] == '"n";r=1;t=5;degraded'


def test_a_name_cannot_break_out_of_its_string() -> None:
    headers = headers_for(LimitStanding('a"b\\\r\nx: y\u00e9', "tokens", 1e300, 1, 60, 5))
    assert headers["ratelimit"] == '"a\\"b\\\\??x: y?";r=1;t=5'
    assert f"q={LARGEST_INTEGER}" in headers["ratelimit-policy"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0204, "21ms"),
        (0.9999, "1s"),
        (1.5, "1.5s"),
        (59.9996, "1m0s"),
        (360, "6m0s"),
        (3600, "1h0m0s"),
        (86_400, "24h0m0s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_only_known_words_of_the_gateway_become_headers() -> None:
    notes = GatewayNotes()
    notes.take((("x-mesh-usage-bin", b"\x00"), ("x-mesh-load-bin", b"\x00"), ("x-mesh-model", "secret")))
    assert notes.headers() == []
    notes.take((("x-mesh-decision", "model=chat\r\nx-evil: 1"),))
    assert notes.headers() == []
    notes.take((("x-mesh-cache", "hit"), ("x-mesh-decision", "model=chat"), ("x-mesh-limits", ";;;")))
    assert notes.headers() == [(b"x-mesh-decision", b"model=chat"), (b"x-mesh-cache", b"hit")]


def test_trailers_replace_what_was_said_first() -> None:
    notes = GatewayNotes()
    notes.take((("x-mesh-limits", limit_standing.encode([REQUESTS])),))
    notes.take((("x-mesh-limits", limit_standing.encode([CALLS])), ("x-mesh-delivered", "12")))
    assert b"ratelimit" in dict(notes.headers())
    assert dict(notes.headers())[b"ratelimit"].startswith(b'"model:')
    assert notes.delivered == 12


@pytest.mark.parametrize("said", ["", "-1", "1e3", "12345678901"])
def test_a_count_that_is_none_is_not_told(said: str) -> None:
    notes = GatewayNotes()
    notes.take((("x-mesh-delivered", said),))
    assert notes.delivered is None
