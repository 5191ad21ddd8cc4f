"""A /metrics page as numbers: only the metrics that `mesh top` reads, and only as many as it can hold.

Does not fetch it, and does not know what became of the numbers since the page before.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

from prometheus_client.parser import text_string_to_metric_families

from mesh_cli.state import Kind

STARTED_AT = "process_start_time_seconds"
COUNTERS = frozenset(
    {
        "mesh_gateway_request_seconds_bucket",
        "mesh_gateway_requests_total",
        "mesh_gateway_tenant_requests_total",
        "mesh_gateway_tokens_total",
        "mesh_worker_request_seconds_bucket",
        "mesh_worker_requests_total",
        "mesh_worker_time_to_first_token_seconds_bucket",
        "mesh_worker_tokens_total",
    }
)
GAUGES = frozenset(
    {
        "mesh_gateway_endpoint_ready",
        "mesh_gateway_in_flight",
        "mesh_gateway_queue_depth",
        "mesh_worker_in_flight",
        "mesh_worker_kv_cache_usage_ratio",
        "mesh_worker_model_ready",
        "mesh_worker_queue_depth",
        "mesh_worker_running",
        "mesh_worker_slots",
        STARTED_AT,
    }
)
READ = COUNTERS | GAUGES
MAX_SERIES = 50_000
# Of more, and of what is no number, no sum could be shown.
MAX_VALUE = 1e18
# The parser's time grows with the square of a line's length.
MAX_LINE_CHARACTERS = 4096

KINDS: Mapping[str, Kind] = {"mesh_gateway_": "gateway", "mesh_worker_": "worker", "mesh_bridge_": "bridge"}
NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")

Labels = tuple[tuple[str, str], ...]
"""Names and values of the labels, sorted by name."""
Families = Mapping[str, Mapping[Labels, float]]
"""A number for each series, by the name of the metric and the labels."""


class PageError(Exception):
    """What was answered is no page of metrics of a gateway or a worker; the message says why."""


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """What a process tells of itself. started_at_s: Unix time; None if it does not tell."""

    kind: Kind
    families: Families
    started_at_s: float | None = None

    @property
    def model(self) -> str:
        """The model of a worker; empty if it tells of none."""
        labels = next(iter(self.families.get("mesh_worker_model_ready", ())), ())
        return dict(labels).get("model", "")


def parse_page(text: str) -> Page:
    """The numbers of a page in Prometheus' text format. Raises PageError."""
    lines = text.split("\n")
    kind = _kind(lines)
    families: defaultdict[str, dict[Labels, float]] = defaultdict(dict)
    try:
        for name, labels, value in _samples("\n".join(_read_lines(lines))):
            if abs(value) <= MAX_VALUE:
                families[name][labels] = value
    except (ValueError, IndexError, OverflowError):
        raise PageError("its metrics are not in Prometheus' text format") from None
    return Page(kind, dict(families), families[STARTED_AT].get(()))


def _kind(lines: list[str]) -> Kind:
    for line in lines:
        for prefix, kind in KINDS.items():
            if not line.startswith(prefix):
                continue
            if kind == "bridge":
                raise PageError("it is a REST bridge; a gateway or a worker knows the models")
            return kind
    raise PageError("its answer has no metrics of a gateway or a worker")


def _read_lines(lines: list[str]) -> Iterator[str]:
    """The lines of the metrics that are read. Raises PageError if they are too many or too long."""
    series = 0
    for line in lines:
        name = NAME.match(line)
        if name is None or name[0] not in READ:
            continue
        series += 1
        if series > MAX_SERIES:
            raise PageError(f"it has more than {MAX_SERIES} series")
        if len(line) > MAX_LINE_CHARACTERS:
            raise PageError(f"it has a line of more than {MAX_LINE_CHARACTERS} characters")
        yield line


def _samples(text: str) -> Iterator[tuple[str, Labels, float]]:
    for metric in text_string_to_metric_families(text):
        for sample in metric.samples:
            yield sample.name, tuple(sorted(sample.labels.items())), float(sample.value)
