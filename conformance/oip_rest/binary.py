"""Tensors as bytes after the JSON: an extension, by which clients send most data."""

from __future__ import annotations

from conformance.checks import NotApplicableError, expect, expect_same
from conformance.http_answers import Json, expect_status, member
from conformance.oip_rest.refused import expect_error
from conformance.oip_rest.server import OIP_REST, OipRestServer, path_of
from conformance.oip_rest.tensors import (
    HEADER,
    Arrays,
    arrays_of,
    binary_request,
    expect_near,
    flat_request,
    parts_of,
)

ALL_AS_BYTES: Json = {"parameters": {"binary_data_output": True}}


@OIP_REST.check
async def bytes_in_are_the_same_as_json(server: OipRestServer) -> None:
    """Inputs as bytes have the answer of the same inputs as JSON."""
    model, plain = await _model_and_answer(server)
    document, tail = binary_request(model)
    expect_near(arrays_of(await server.infer(model["name"], document, tail)), plain)


@OIP_REST.check
async def bytes_out_are_the_same_as_json(server: OipRestServer) -> None:
    """With binary_data_output all outputs come as bytes, and are those of the JSON."""
    model, plain = await _model_and_answer(server)
    response = await server.infer(model["name"], {**flat_request(model), **ALL_AS_BYTES})
    expect_status(response, 200)
    expect(HEADER in response.headers, f"the answer has no header {HEADER}")
    for tensor in member(parts_of(response)[0], "outputs", list):
        member(member(tensor, "parameters", dict), "binary_data_size", int)
    expect_near(arrays_of(response), plain)


@OIP_REST.check
async def bytes_go_both_ways(server: OipRestServer) -> None:
    """Inputs as bytes are answered with bytes, whatever the datatypes, as many as the sizes say."""
    await server.needs_binary()
    model = await server.numeric_model()
    document, tail = binary_request(model)
    outputs = arrays_of(await server.infer(model["name"], {**document, **ALL_AS_BYTES}, tail))
    expect_same(sorted(outputs), sorted(one["name"] for one in model["outputs"]), "names of outputs")


@OIP_REST.check
async def one_output_alone_comes_as_bytes(server: OipRestServer) -> None:
    """An output with the parameter binary_data comes as bytes, and the others as JSON."""
    model, plain = await _model_and_answer(server)
    first, *others = [one["name"] for one in model["outputs"]]
    wanted = [
        {"name": first, "parameters": {"binary_data": True}},
        *({"name": name, "parameters": {"binary_data": False}} for name in others),
    ]
    response = await server.infer(model["name"], {**flat_request(model), "outputs": wanted})
    expect_near(arrays_of(response), plain)
    as_bytes = [one["name"] for one in parts_of(response)[0]["outputs"] if "data" not in one]
    expect_same(as_bytes, [first], "names of outputs that are bytes")


@OIP_REST.check
async def a_body_of_bytes_alone_is_taken(server: OipRestServer) -> None:
    """A header length of 0 makes the whole body the one input of the model."""
    model, plain = await _model_and_answer(server)
    if len(model["inputs"]) != 1 or model["inputs"][0]["shape"].count(-1) > 1:
        raise NotApplicableError(f"'{model['name']}' has not one input with one free size at most")
    tail = binary_request(model)[1]
    expect_near(
        arrays_of(await server.post_bytes(path_of(model["name"], "infer"), tail, {HEADER: "0"})), plain
    )


@OIP_REST.check
async def a_header_length_beyond_the_body_is_refused(server: OipRestServer) -> None:
    """A header length larger than the body, below 0, or no number is a 4xx with an error."""
    await server.needs_binary()
    model = await server.numeric_model()
    path = path_of(model["name"], "infer")
    for length in ("1000000", "-1", "many"):
        expect_error(await server.post_bytes(path, b'{"inputs": []}', {HEADER: length}))


@OIP_REST.check
async def bytes_of_another_size_are_refused(server: OipRestServer) -> None:
    """A binary_data_size that is not that of the bytes, or of the shape, is a 4xx with an error."""
    await server.needs_binary()
    model = await server.numeric_model()
    document, tail = binary_request(model)
    for wrong in (tail[:-1], tail + b"\0"):
        expect_error(await server.infer(model["name"], document, wrong))
    document["inputs"][-1]["parameters"]["binary_data_size"] += 1
    expect_error(await server.infer(model["name"], document, tail))
    expect_error(await server.infer(model["name"], document, tail + b"\0"))


async def _model_and_answer(server: OipRestServer) -> tuple[Json, Arrays]:
    """A model, and its outputs for JSON. Raises NotApplicableError if bytes are not announced."""
    await server.needs_binary()
    model = await server.tensor_model()
    return model, arrays_of(await server.infer(model["name"], flat_request(model)))
