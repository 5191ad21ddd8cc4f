"""ModelInfer: what an answer repeats of its request, and which outputs it has."""

from __future__ import annotations

from conformance.checks import expect, expect_same
from conformance.oip_grpc.server import OIP_GRPC, OipServer
from conformance.oip_grpc.tensors import arrays_of, raw_request
from inference_mesh.oip import open_inference_pb2 as oip


@OIP_GRPC.check
async def answer_names_model_and_request(server: OipServer) -> None:
    """An answer has the model's name and the id of its request."""
    model = await server.tensor_model()
    answer = await server.infer(raw_request(model))
    expect_same(answer.model_name, model.name, "model_name")
    expect_same(answer.id, "conformance-1", "id")


@OIP_GRPC.check
async def outputs_are_those_of_the_metadata(server: OipServer) -> None:
    """Where none is asked for, every described output comes, with its datatype and number of axes."""
    model = await server.tensor_model()
    answer = await server.infer(raw_request(model))
    arrays_of(answer)
    found = sorted((one.name, one.datatype, len(one.shape)) for one in answer.outputs)
    wanted = sorted((one.name, one.datatype, len(one.shape)) for one in model.outputs)
    expect_same(found, wanted, "names, datatypes and axes")


@OIP_GRPC.check
async def requested_outputs_alone_come(server: OipServer) -> None:
    """Where one output is asked for, it alone comes."""
    model = await server.tensor_model()
    request = raw_request(model)
    name = model.outputs[-1].name
    request.outputs.append(oip.ModelInferRequest.InferRequestedOutputTensor(name=name))
    answer = await server.infer(request)
    expect_same([one.name for one in answer.outputs], [name], "names of outputs")


@OIP_GRPC.check
async def equal_requests_have_equal_answers(server: OipServer) -> None:
    """The same tensors give the same outputs twice, to one part in a thousand."""
    model = await server.tensor_model()
    first, second = [arrays_of(await server.infer(raw_request(model))) for _ in range(2)]
    for name, values in first.items():
        expect_same(second[name].shape, values.shape, f"shape of output '{name}'")
        near = values.dtype == object or bool(
            (
                abs(values.astype(float) - second[name].astype(float))
                <= 1e-3 * (1 + abs(values.astype(float)))
            ).all()
        )
        expect(near, f"output '{name}' has other values")


@OIP_GRPC.check
async def unknown_parameters_are_no_harm(server: OipServer) -> None:
    """A request parameter that the server does not know is ignored."""
    request = raw_request(await server.tensor_model())
    request.parameters["conformance_unknown"].string_param = "x"
    await server.infer(request)
