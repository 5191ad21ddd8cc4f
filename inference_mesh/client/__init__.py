"""The public Python client: every model of a mesh behind one object, for asyncio and without.

    async with MeshClient("127.0.0.1:50051", api_key="mesh_…", retries=Retries()) as mesh:
        answer = await mesh.infer("tiny-chat", {"prompt": "Once upon a time"})
        vectors = await mesh.embed("minilm", ["a text", "another"])
        async for piece in mesh.stream("tiny-chat", {"messages": [...]}):
            print(piece.output.generate.text, end="")

    with SyncMeshClient("gateway.example:50051", api_key="mesh_…", tls=ClientTls(Path("ca.pem"))) as mesh:
        vectors = mesh.embed("minilm", ["a text"])  # float32 (1, 384)

Payloads are dictionaries in the form of `POST /api/infer`, or protobuf payloads. Errors are
MeshError, with `retry_after_s` and `violations` where a limit was reached. It imports the native
stubs only, so that it can live beside tritonclient.
"""

from inference_mesh.client.asynchronous import MeshClient
from inference_mesh.client.retries import Retries
from inference_mesh.client.synchronous import SyncMeshClient
from inference_mesh.client.terms import DEFAULT_TIMEOUT_S, PayloadLike, vectors_of
from inference_mesh.client_tls import ClientTls

__all__ = [
    "DEFAULT_TIMEOUT_S",
    "ClientTls",
    "MeshClient",
    "PayloadLike",
    "Retries",
    "SyncMeshClient",
    "vectors_of",
]
