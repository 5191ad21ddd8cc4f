from __future__ import annotations

import contextlib
import time

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from inference_mesh.errors import InvalidInputError
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.routing_fields import RoutingFields, routing_fields
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
        message = native.SerializeToString()
        read = routing_fields(message)
        assert read._replace(payload_start=-1) == wanted
        assert message[read.payload_start :] == payload.SerializeToString()
        assert routing_fields(other.SerializeToString()) == wanted


@given(st.binary(max_size=200))
def test_any_bytes_are_fields_or_invalid_input(data: bytes) -> None:
    with contextlib.suppress(InvalidInputError):
        routing_fields(data)


@given(st.lists(st.tuples(st.integers(1, 3), st.text(max_size=200)), max_size=16))
def test_fields_in_any_order_and_number_are_read_as_protobuf_reads_them(
    fields: list[tuple[int, str]],
) -> None:
    parts = [_field(number, text.encode()) for number, text in fields]
    parsed = inference_pb2.InferRequest.FromString(b"".join(parts))
    assert routing_fields(b"".join(parts)) == RoutingFields(parsed.model, parsed.version, parsed.request_id)


@given(st.binary(max_size=60))
def test_leading_fields_that_protobuf_refuses_are_refused(data: bytes) -> None:
    """The other way round does not hold: the gateway does not look at what is behind."""
    message = b"\x0a" + data
    try:
        found = routing_fields(message)
    except InvalidInputError:
        return
    with contextlib.suppress(DecodeError):
        parsed = inference_pb2.GetModelRequest.FromString(message)
        assert found.model == parsed.model or len(data) > len(found.model.encode()) + 1


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


def _field(number: int, data: bytes) -> bytes:
    length, prefix = len(data), bytearray([number << 3 | 2])
    while length > 0x7F:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    return bytes(prefix) + bytes([length]) + data
