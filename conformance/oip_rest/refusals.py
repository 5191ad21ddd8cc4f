"""Wrong requests, each a 4xx with {"error": "…"}, and who may not ask at all."""

from __future__ import annotations

from conformance.checks import NotApplicableError
from conformance.doors import WRONG_KEY
from conformance.http_answers import Json, expect_status, send_with_key
from conformance.oip_rest.refused import expect_error
from conformance.oip_rest.server import OIP_REST, UNKNOWN_MODEL, OipRestServer, path_of
from conformance.oip_rest.tensors import flat_request


@OIP_REST.check
async def malformed_json_is_refused(server: OipRestServer) -> None:
    """A body that is no JSON, or no JSON object, is a 4xx with an error."""
    path = path_of((await server.numeric_model())["name"], "infer")
    for body in (b'{"inputs": ', b"[]", b"\xff\xfe"):
        expect_error(await server.post_bytes(path, body, {}))


@OIP_REST.check
async def an_empty_body_is_refused(server: OipRestServer) -> None:
    """An inference without a body is a 4xx with an error."""
    path = path_of((await server.numeric_model())["name"], "infer")
    expect_error(await server.post_bytes(path, b"", {}))


@OIP_REST.check
async def missing_inputs_are_refused(server: OipRestServer) -> None:
    """An inference without inputs, or with none in their list, is a 4xx with an error."""
    name = (await server.numeric_model())["name"]
    expect_error(await server.infer(name, {"id": "conformance-1"}))
    expect_error(await server.infer(name, {"inputs": []}))


@OIP_REST.check
async def an_unknown_input_is_refused(server: OipRestServer) -> None:
    """An input of a name that the model does not have is a 4xx with an error."""
    await _expect_refused_input(server, name="conformance_no_such_input")


@OIP_REST.check
async def another_datatype_is_refused(server: OipRestServer) -> None:
    """An input of another datatype than the model's is a 4xx with an error."""
    model = await server.tensor_model()
    other = "INT64" if model["inputs"][0]["datatype"] != "INT64" else "INT8"
    data = [int(value) for value in flat_request(model)["inputs"][0]["data"]]
    await _expect_refused_input(server, datatype=other, data=data)


@OIP_REST.check
async def an_unknown_datatype_is_refused(server: OipRestServer) -> None:
    """An input of a datatype that does not exist is a 4xx with an error."""
    await _expect_refused_input(server, datatype="FP31")


@OIP_REST.check
async def a_shape_of_another_number_of_axes_is_refused(server: OipRestServer) -> None:
    """A shape with two axes more than the model's is a 4xx with an error, though the data fit it."""
    shape = flat_request(await server.tensor_model())["inputs"][0]["shape"]
    await _expect_refused_input(server, shape=[*shape, 1, 1])


@OIP_REST.check
async def a_shape_with_a_negative_size_is_refused(server: OipRestServer) -> None:
    """A shape with a negative size is a 4xx with an error."""
    shape = flat_request(await server.tensor_model())["inputs"][0]["shape"]
    await _expect_refused_input(server, shape=[-size for size in shape])


@OIP_REST.check
async def data_of_another_length_are_refused(server: OipRestServer) -> None:
    """Data with one value more or less than the shape holds are a 4xx with an error."""
    data = flat_request(await server.tensor_model())["inputs"][0]["data"]
    await _expect_refused_input(server, data=[*data, data[0]])
    await _expect_refused_input(server, data=data[1:])


@OIP_REST.check
async def words_for_numbers_are_refused(server: OipRestServer) -> None:
    """Texts as the data of an input of numbers are a 4xx with an error."""
    data = flat_request(await server.tensor_model())["inputs"][0]["data"]
    await _expect_refused_input(server, data=["x" for _ in data])


@OIP_REST.check
async def an_unknown_output_is_refused(server: OipRestServer) -> None:
    """A requested output of a name that the model does not have is a 4xx with an error."""
    model = await server.tensor_model()
    request = {**flat_request(model), "outputs": [{"name": "conformance_no_such_output"}]}
    expect_error(await server.infer(model["name"], request))


@OIP_REST.check
async def an_unknown_model_is_refused(server: OipRestServer) -> None:
    """An inference of no model is a 4xx with an error."""
    tensor: Json = {"name": "x", "datatype": "FP32", "shape": [1], "data": [0]}
    expect_error(await server.infer(UNKNOWN_MODEL, {"inputs": [tensor]}))


@OIP_REST.check
async def an_unknown_version_is_refused(server: OipRestServer) -> None:
    """An inference of a version that does not exist is a 4xx with an error."""
    model = await server.tensor_model()
    path = path_of(model["name"], "infer", "999999999")
    expect_error(await server.http.post(path, json=flat_request(model)))


@OIP_REST.check
async def an_unknown_path_is_not_found(server: OipRestServer) -> None:
    """A path that does not exist is 404."""
    expect_status(await server.http.get("/v2/conformance/no-such-path"), 404)


@OIP_REST.check
async def another_method_is_refused(server: OipRestServer) -> None:
    """GET on …/infer is 405, or 404 or 400 from servers that route by method as well."""
    path = path_of((await server.numeric_model())["name"], "infer")
    expect_status(await server.http.get(path), 405, 404, 400)


@OIP_REST.check
async def a_call_without_a_key_is_refused(server: OipRestServer) -> None:
    """An inference without a key is 401."""
    await _expect_401(server, None)


@OIP_REST.check
async def a_call_with_a_wrong_key_is_refused(server: OipRestServer) -> None:
    """An inference with a key that does not exist is 401."""
    await _expect_401(server, WRONG_KEY)


async def _expect_refused_input(server: OipRestServer, **changes: object) -> None:
    """A request whose first input has other members is refused, and the one without them is not."""
    model = await server.tensor_model()
    request = flat_request(model)
    expect_status(await server.infer(model["name"], request), 200)
    request["inputs"][0].update(changes)
    expect_error(await server.infer(model["name"], request))


async def _expect_401(server: OipRestServer, key: str | None) -> None:
    if not server.has_key:
        raise NotApplicableError("no key was given to this run")
    model = await server.tensor_model()
    path = path_of(model["name"], "infer")
    response = await send_with_key(server.http, "POST", path, key, flat_request(model))
    expect_status(response, 401)
    expect_error(response)
