"""Inference with JSON data: what an answer repeats of its request, and the form of its outputs."""

from __future__ import annotations

from conformance.checks import NotApplicableError, expect_same
from conformance.http_answers import member
from conformance.oip_rest.server import OIP_REST, OipRestServer, path_of
from conformance.oip_rest.tensors import arrays_of, expect_near, flat_request, nested_request


@OIP_REST.check
async def an_answer_names_its_model(server: OipRestServer) -> None:
    """An answer has the name of its model as model_name."""
    model = await server.tensor_model()
    answer = await server.inferred(model["name"], flat_request(model))
    expect_same(member(answer, "model_name", str), model["name"], "model_name")


@OIP_REST.check
async def an_answer_repeats_the_id(server: OipRestServer) -> None:
    """An answer has the id of its request."""
    model = await server.tensor_model()
    answer = await server.inferred(model["name"], flat_request(model))
    expect_same(member(answer, "id", str), "conformance-1", "id")


@OIP_REST.check
async def outputs_are_those_of_the_metadata(server: OipRestServer) -> None:
    """Where none is asked for, every described output comes, with its datatype and number of axes."""
    model = await server.tensor_model()
    answer = await server.inferred(model["name"], flat_request(model))
    found, wanted = [
        sorted((one["name"], one["datatype"], len(one["shape"])) for one in outputs)
        for outputs in (member(answer, "outputs", list), model["outputs"])
    ]
    expect_same(found, wanted, "names, datatypes and axes")


@OIP_REST.check
async def outputs_have_as_many_values_as_their_shape(server: OipRestServer) -> None:
    """The data of an output are values of its datatype, as many as its shape holds."""
    model = await server.tensor_model()
    arrays_of(await server.infer(model["name"], flat_request(model)))


@OIP_REST.check
async def nested_data_are_the_same_as_flat(server: OipRestServer) -> None:
    """Data nested as the shape is have the answer of the same data in a row."""
    model = await server.tensor_model()
    if all(len(spec["shape"]) < 2 for spec in model["inputs"]):
        raise NotApplicableError(f"no input of '{model['name']}' has two axes")
    flat = arrays_of(await server.infer(model["name"], flat_request(model)))
    expect_near(arrays_of(await server.infer(model["name"], nested_request(model))), flat)


@OIP_REST.check
async def requested_outputs_alone_come(server: OipRestServer) -> None:
    """Where one output is asked for, it alone comes."""
    model = await server.tensor_model()
    name = model["outputs"][-1]["name"]
    answer = await server.inferred(model["name"], {**flat_request(model), "outputs": [{"name": name}]})
    expect_same([one["name"] for one in member(answer, "outputs", list)], [name], "names of outputs")


@OIP_REST.check
async def a_batch_of_two_has_two_rows(server: OipRestServer) -> None:
    """Where the first axis of all tensors is free, two equal rows give two equal rows."""
    model = await server.tensor_model()
    if not all(spec["shape"][:1] == [-1] for spec in [*model["inputs"], *model["outputs"]]):
        raise NotApplicableError(f"the tensors of '{model['name']}' have no free first axis")
    request = flat_request(model)
    for tensor in request["inputs"]:
        tensor["shape"][0] = 2
        tensor["data"] *= 2
    outputs = arrays_of(await server.infer(model["name"], request))
    for name, values in outputs.items():
        expect_same(values.shape[0], 2, f"first size of output '{name}'")
    expect_near(
        {name: values[1] for name, values in outputs.items()},
        {name: values[0] for name, values in outputs.items()},
    )


@OIP_REST.check
async def a_version_answers_as_itself(server: OipRestServer) -> None:
    """An inference by …/versions/{v}/infer names that version as model_version."""
    model = await server.tensor_model()
    versions = model.get("versions")
    if not versions:
        raise NotApplicableError(f"the model '{model['name']}' lists no versions, which are optional")
    path = path_of(model["name"], "infer", versions[-1])
    response = await server.http.post(path, json=flat_request(model))
    arrays_of(response)
    expect_same(response.json().get("model_version"), versions[-1], "model_version")


@OIP_REST.check
async def unknown_parameters_are_no_harm(server: OipRestServer) -> None:
    """A request parameter that the server does not know is ignored."""
    model = await server.tensor_model()
    await server.inferred(model["name"], {**flat_request(model), "parameters": {"conformance_unknown": "x"}})
