"""Contents: typed and raw, numbers and texts."""

from __future__ import annotations

import numpy as np

from conformance.checks import expect, expect_same
from conformance.oip_grpc.server import OIP_GRPC, OipServer
from conformance.oip_grpc.tensors import arrays_of, raw_request, typed_request


@OIP_GRPC.check
async def raw_contents_are_taken(server: OipServer) -> None:
    """A request with raw_input_contents is answered."""
    answer = await server.infer(raw_request(await server.tensor_model()))
    expect(arrays_of(answer), "there are no outputs")


@OIP_GRPC.check
async def typed_contents_give_the_same(server: OipServer) -> None:
    """Typed contents give the outputs that the same values give as raw bytes."""
    model = await server.tensor_model()
    typed = arrays_of(await server.infer(typed_request(model)))
    raw = arrays_of(await server.infer(raw_request(model)))
    expect_same(sorted(typed), sorted(raw), "names of outputs")
    for name, values in raw.items():
        if values.dtype == object:
            expect_same(list(typed[name].reshape(-1)), list(values.reshape(-1)), f"output '{name}'")
        else:
            near = np.allclose(typed[name].astype(float), values.astype(float), rtol=1e-3, atol=1e-3)
            expect(near, f"output '{name}' has other values")


@OIP_GRPC.check
async def texts_are_taken_as_bytes(server: OipServer) -> None:
    """A model that takes texts answers BYTES in both forms, with outputs of the same shape."""
    model = await server.text_model()
    typed = arrays_of(await server.infer(typed_request(model)))
    raw = arrays_of(await server.infer(raw_request(model)))
    expect_same(
        sorted((name, values.shape) for name, values in typed.items()),
        sorted((name, values.shape) for name, values in raw.items()),
        "names and shapes of outputs",
    )
