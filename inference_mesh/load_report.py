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
SLOTS = "slots"
KV_CACHE = "kv_cache"
MAX_COUNT = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class LoadReport:
    """How busy a worker is.

    utilization, kv_utilization: 0 to 1. queued, running: requests. slots: requests that it
    works on at once; 0 = unknown.
    """

    utilization: float
    queued: int
    running: int
    kv_utilization: float = 0.0
    slots: int = 0


def encode(report: LoadReport) -> bytes:
    """The report as the bytes of the trailer."""
    message = OrcaLoadReport(
        application_utilization=report.utilization,
        utilization={KV_CACHE: report.kv_utilization},
        named_metrics={QUEUE_DEPTH: report.queued, RUNNING: report.running},
    )
    if report.slots:
        message.named_metrics[SLOTS] = report.slots
    return message.SerializeToString()


def decode(data: bytes) -> LoadReport | None:
    """The report of a trailer's bytes; None if they are none."""
    try:
        message = OrcaLoadReport.FromString(data)
    except DecodeError:
        return None
    return LoadReport(
        utilization=message.application_utilization,
        queued=_count(message, QUEUE_DEPTH),
        running=_count(message, RUNNING),
        kv_utilization=message.utilization.get(KV_CACHE, 0.0),
        slots=_count(message, SLOTS),
    )


def _count(message: OrcaLoadReport, name: str) -> int:
    """A metric that counts something; 0 if it is absent or no count."""
    value = message.named_metrics.get(name, 0.0)
    return int(value) if 0 <= value <= MAX_COUNT else 0
