"""The load that a worker reports with every answer, as an ORCA report in the trailers.

Source: xds.data.orca.v3.OrcaLoadReport (our copy of it: ADR 0005) and gRFC A51; the trailer is
`endpoint-load-metrics-bin`, and `x-mesh-load-bin` for readers on grpcio (ADR 0004).
"""

from __future__ import annotations

import dataclasses

from google.protobuf.message import DecodeError

from inference_mesh.v1.load_report_pb2 import OrcaLoadReport

QUEUE_DEPTH = "queue_depth"
RUNNING = "running"
KV_CACHE = "kv_cache"


@dataclasses.dataclass(frozen=True, slots=True)
class LoadReport:
    """How busy a worker is.

    utilization, kv_utilization: 0 to 1. queued, running: requests.
    """

    utilization: float
    queued: int
    running: int
    kv_utilization: float = 0.0


def encode(report: LoadReport) -> bytes:
    """The report as the bytes of the trailer."""
    message = OrcaLoadReport(
        application_utilization=report.utilization,
        utilization={KV_CACHE: report.kv_utilization},
        named_metrics={QUEUE_DEPTH: report.queued, RUNNING: report.running},
    )
    return message.SerializeToString()


def decode(data: bytes) -> LoadReport | None:
    """The report of a trailer's bytes; None if they are none."""
    try:
        message = OrcaLoadReport.FromString(data)
    except DecodeError:
        return None
    return LoadReport(
        utilization=message.application_utilization,
        queued=int(message.named_metrics.get(QUEUE_DEPTH, 0)),
        running=int(message.named_metrics.get(RUNNING, 0)),
        kv_utilization=message.utilization.get(KV_CACHE, 0.0),
    )
