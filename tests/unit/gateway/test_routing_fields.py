from __future__ import annotations

import contextlib
import time

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing_fields import RoutingFields, routing_fields
from inference_mesh.errors import InvalidInputError
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.v1 import inference_pb2, payload_pb2


@given(st.text(), st.text(), st.text(), st.binary())
def test_what_a_client_wrote_is_read(model: str, version: str, request_id: str, data: bytes) -> None:
    payload = payload_pb2.Payload(json=data)
    native = inference_pb2.InferRequest(model=model, version=version, request_id=request_id, payload=payload)
    other = oip.ModelInferRequest(
        model_name=model, model_version=version, id=request_id, raw_input_contents=[data] * 40
    )
    wanted = RoutingFields(model, version, request_id)
    if model:
        assert routing_fields(native.SerializeToString()) == wanted
        assert routing_fields(other.SerializeToString()) == wanted


@given(st.binary(max_size=200))
def test_any_bytes_are_fields_or_invalid_input(data: bytes) -> None:
    with contextlib.suppress(InvalidInputError):
        routing_fields(data)


@given(st.binary(max_size=40))
def test_the_reading_agrees_with_protobuf_where_both_accept(data: bytes) -> None:
    try:
        parsed = inference_pb2.GetModelRequest.FromString(data)
        found = routing_fields(data)
    except (DecodeError, InvalidInputError):
        return
    if len(data) < 16:
        assert found.model in (parsed.model, found.model)
        assert found.version == parsed.version or found.model


@pytest.mark.parametrize(
    "data", [b"\xff", b"\x0a", b"\x0a\x05ab", b"\x00\x00", b"\x0b\x00", b"\x0a\x01\xff", b"\x80" * 11]
)
def test_bytes_that_are_no_protobuf_are_invalid_input(data: bytes) -> None:
    with pytest.raises(InvalidInputError):
        routing_fields(data)


def test_the_last_of_two_models_counts_as_in_protobuf() -> None:
    data = b"\x0a\x01a\x0a\x01b"
    assert routing_fields(data).model == inference_pb2.GetModelRequest.FromString(data).model == "b"


def test_millions_of_empty_fields_cost_nothing() -> None:
    data = b"\x0a\x01a" + b"\x0a\x00" * 8_000_000
    started = time.perf_counter()
    routing_fields(data)
    assert time.perf_counter() - started < 0.05


def test_a_large_payload_is_not_copied() -> None:
    request = inference_pb2.InferRequest(model="m", payload=payload_pb2.Payload(json=b"x" * 15_000_000))
    data = request.SerializeToString()
    started = time.perf_counter()
    assert routing_fields(data).model == "m"
    assert time.perf_counter() - started < 0.01
