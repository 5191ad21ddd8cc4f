from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.forwarded_metadata import (
    MAX_PAIRS,
    MAX_TOTAL_BYTES,
    client_metadata_for_worker,
    credential_of,
    worker_metadata_for_client,
)

Pairs = list[tuple[str, str | bytes]]


@pytest.mark.parametrize(
    "name",
    [
        "x-mesh-model",
        "x-mesh-anything",
        "authorization",
        "x-api-key",
        "cookie",
        "grpc-timeout",
        "user-agent",
        "traceparent",
        "x-request-id",
        ":path",
        "x-tenant",
        "x-tenant-id",
        "x-user",
        "x-user-id",
        "x_user_id",
        "x-forwarded-user",
        "x-forwarded-email",
        "x-auth-request-email",
        "x-authenticated-userid",
        "x-consumer-username",
        "x-remote-user",
        "remote-user",
        "x-scope-orgid",
        "x-goog-authenticated-user-email",
        "x-client-cert",
        "forwarded",
    ],
)
def test_what_is_not_the_clients_to_send_is_dropped(name: str) -> None:
    assert client_metadata_for_worker([(name, "value")]) == ()


def test_plain_metadata_passes_and_binary_does_not() -> None:
    sent: Pairs = [("x-team", "blue"), ("junk-bin", b"\x00")]
    assert client_metadata_for_worker(sent) == (("x-team", "blue"),)


@given(st.lists(st.tuples(st.text(min_size=1, max_size=50), st.text(max_size=500)), max_size=100))
def test_what_passes_is_bounded(sent: list[tuple[str, str]]) -> None:
    kept = client_metadata_for_worker(sent)
    assert len(kept) <= MAX_PAIRS
    assert sum(len(name) + len(value) for name, value in kept) <= MAX_TOTAL_BYTES


def test_status_details_and_usage_of_a_worker_pass_and_the_transports_own_do_not() -> None:
    sent: Pairs = [
        ("grpc-status-details-bin", b"1"),
        ("x-mesh-usage-bin", b"2"),
        ("grpc-encoding", "gzip"),
        ("date", "x"),
    ]
    assert worker_metadata_for_client(sent) == tuple(sent[:2])


@pytest.mark.parametrize(
    ("metadata", "credential"),
    [
        ([], None),
        ([("authorization", "Bearer abc")], "abc"),
        ([("authorization", "bearer  abc ")], "abc"),
        ([("authorization", "Basic " + base64.b64encode(b"user:pass:word").decode())], "pass:word"),
        ([("authorization", "Basic !!!")], None),
        ([("x-api-key", "abc")], "abc"),
        ([("authorization", "Digest abc"), ("x-api-key", "def")], "def"),
    ],
)
def test_the_credential_is_found_in_each_form(
    metadata: list[tuple[str, str]], credential: str | None
) -> None:
    assert credential_of(metadata) == credential
