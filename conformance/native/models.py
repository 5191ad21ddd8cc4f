"""Listing: which models there are and what they say of themselves."""

from __future__ import annotations

import grpc

from conformance.checks import NotApplicableError, expect, expect_same
from conformance.doors import refused
from conformance.native.server import NATIVE, UNKNOWN_MODEL, NativeServer
from inference_mesh.v1 import inference_pb2, payload_pb2


@NATIVE.check
async def list_models_names_each_once(server: NativeServer) -> None:
    """ListModels gives each model a name of its own and a task."""
    models = await server.models()
    names = [(model.name, model.version) for model in models]
    expect(all(name for name, _ in names), "a model has no name")
    expect_same(len(set(names)), len(names), "number of different names")
    for model in models:
        expect(model.task != payload_pb2.TASK_UNSPECIFIED, f"'{model.name}' has no task")


@NATIVE.check
async def get_model_says_what_the_list_says(server: NativeServer) -> None:
    """GetModel of a listed model gives the same name, task and readiness."""
    listed = await server.models()
    if not listed:
        raise NotApplicableError("the server lists no model")
    request = inference_pb2.GetModelRequest(model=listed[0].name)
    found = (await server.stub.GetModel(request, metadata=server.metadata)).model
    expect_same(found.name, listed[0].name, "name")
    expect_same(found.task, listed[0].task, "task")


@NATIVE.check
async def get_model_of_an_unknown_name(server: NativeServer) -> None:
    """GetModel of a model that does not exist ends with NOT_FOUND."""
    request = inference_pb2.GetModelRequest(model=UNKNOWN_MODEL)
    await refused(server.stub.GetModel(request, metadata=server.metadata), grpc.StatusCode.NOT_FOUND)


@NATIVE.check
async def aliases_answer_as_their_model(server: NativeServer) -> None:
    """GetModel of an alias gives the model that lists it."""
    for model in await server.models():
        for alias in model.aliases:
            request = inference_pb2.GetModelRequest(model=alias)
            found = (await server.stub.GetModel(request, metadata=server.metadata)).model
            expect_same(found.name, model.name, f"the model of alias '{alias}'")
            return
    raise NotApplicableError("no listed model has an alias")
