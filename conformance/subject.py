"""What is examined: where it listens, who asks, and which of its models may be used."""

from __future__ import annotations

import dataclasses

from inference_mesh.client_tls import ClientTls


@dataclasses.dataclass(frozen=True, slots=True)
class ModelNames:
    """Models to examine with; empty = whichever the server lists.

    generate: writes text. embed: makes vectors of texts. tensors: takes tensors of numbers.
    """

    generate: str = ""
    embed: str = ""
    tensors: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """One server, or the two doors of one.

    grpc_target: host:port; empty = it has no gRPC. url: of its REST side, without a path at the
    end; empty = it has none. api_key: sent with every call but those that examine its absence.
    tls: trust of both doors. timeout_s: for one check.
    """

    grpc_target: str = ""
    url: str = ""
    api_key: str | None = None
    tls: ClientTls | None = None
    models: ModelNames = ModelNames()
    timeout_s: float = 30.0
