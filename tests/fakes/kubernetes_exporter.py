"""What the kubelets and the API server of a small cluster tell Prometheus: no cluster is here to be scraped.

Three pages with the names, labels and kinds of Kubernetes' own, for containers that are given;
their counters rise with time. GET /cadvisor, /kubelet and /apiserver.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from tests.fakes.text_page import text_pages

MIB = 2**20
CONTAINER_COUNTERS = {
    "container_cpu_usage_seconds_total": 0.4,
    "container_cpu_cfs_periods_total": 10.0,
    "container_cpu_cfs_throttled_periods_total": 0.3,
    "container_oom_events_total": 0.01,
}
"""By how much they rise in a second."""
CONTAINER_GAUGES = {
    "container_memory_working_set_bytes": 300.0 * MIB,
    "container_spec_memory_limit_bytes": 1024.0 * MIB,
}
POD_COUNTERS = {
    "container_network_receive_bytes_total": 4000.0,
    "container_network_transmit_bytes_total": 9000.0,
}
OTHERS = ("kube-system", "coredns", "coredns")


class Container(NamedTuple):
    """Where a container runs, as cAdvisor names it."""

    namespace: str
    pod: str
    container: str


class KubernetesExporter:
    """Owns the pages of one node and one API server."""

    def __init__(self, containers: Sequence[Container]) -> None:
        self._containers = [*containers, Container(*OTHERS)]
        self._started_s = time.monotonic()

    def pages(self) -> dict[str, Callable[[], str]]:
        """The texts by path."""
        pages = {"/cadvisor": self._cadvisor, "/kubelet": self._kubelet, "/apiserver": self._apiserver}
        return {path: lambda lines=lines: "\n".join(lines()) + "\n" for path, lines in pages.items()}  # type: ignore[misc]

    @property
    def _age_s(self) -> float:
        return 3600 + time.monotonic() - self._started_s

    def _cadvisor(self) -> Iterator[str]:
        yield "machine_cpu_cores 8"
        yield f"machine_memory_bytes {32 * 1024 * MIB}"
        for one in self._containers:
            pod = f'namespace="{one.namespace}",pod="{one.pod}"'
            labels = f'{pod},container="{one.container}",id="/kubepods/{one.pod}"'
            for name, per_s in CONTAINER_COUNTERS.items():
                yield f"{name}{{{labels}}} {per_s * self._age_s}"
            for name, value in CONTAINER_GAUGES.items():
                yield f"{name}{{{labels}}} {value}"
            for name, per_s in POD_COUNTERS.items():
                yield f'{name}{{{pod},interface="eth0"}} {per_s * self._age_s}'

    def _kubelet(self) -> Iterator[str]:
        yield f"kubelet_running_pods {len(self._containers)}"
        volume = 'namespace="ai-models",persistentvolumeclaim="model-files"'
        yield f"kubelet_volume_stats_used_bytes{{{volume}}} {700 * MIB}"
        yield f"kubelet_volume_stats_capacity_bytes{{{volume}}} {2048 * MIB}"

    def _apiserver(self) -> Iterator[str]:
        for code, per_s in (("200", 20.0), ("404", 0.5)):
            labels = f'code="{code}",verb="GET",resource="pods"'
            yield f"apiserver_request_total{{{labels}}} {per_s * self._age_s}"
        for kind in ("readOnly", "mutating"):
            yield f'apiserver_current_inflight_requests{{request_kind="{kind}"}} 2'


@contextlib.contextmanager
def kubernetes_exporter(containers: Sequence[Container]) -> Iterator[str]:
    """The URL of an exporter, ended with the block."""
    with text_pages(KubernetesExporter(containers).pages()) as url:
        yield url
