"""KServe's inference clients, by REST and by gRPC; prints what came of it as JSON."""

from __future__ import annotations

import asyncio
import json
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig


def request() -> InferRequest:
    """One flower."""
    features = InferInput("features", [1, 4], "FP32")
    features.set_data_from_numpy(np.array([[5.1, 3.5, 1.4, 0.2]], dtype=np.float32), binary_data=False)
    return InferRequest(model_name="iris", infer_inputs=[features], request_id="q")


async def main() -> None:
    """Ask the bridge of the first argument and the gateway of the second."""
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    by_rest = await rest.infer(sys.argv[1], request(), model_name="iris")
    by_grpc = await InferenceGRPCClient(sys.argv[2]).infer(request())
    found = {
        "rest": by_rest.outputs[0].as_numpy().tolist(),
        "grpc": by_grpc.outputs[0].as_numpy().tolist(),
        "ready": await rest.is_model_ready(sys.argv[1], "iris"),
        "live": await rest.is_server_live(sys.argv[1]),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
