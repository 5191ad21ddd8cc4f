"""Resource usage per pod and model: what the kubelets see, with the workers' model added."""

from __future__ import annotations

from observability.dashboards import variables
from observability.dashboards.layout import Page, Row
from observability.dashboards.panels import (
    BYTES,
    BYTES_PER_S,
    CORES,
    COUNT,
    PER_S,
    RATE,
    RATIO,
    SECONDS,
    Query,
    areas,
    limited,
    lines,
    or_one_zero,
)
from observability.dashboards.variables import OF_MODEL

OF_NAMESPACE = 'namespace=~"$namespace"'
CONTAINERS = f'{OF_NAMESPACE},container!="",container!="POD"'
BY_POD = "sum by (namespace, pod)"
WITH_MODEL = (
    "on (namespace, pod) group_left (model) "
    f"group by (namespace, pod, model) (mesh_worker_model_ready{{{OF_MODEL}}})"
)
"""The join that gives a pod's series the model that the pod serves."""

CPU = f"{BY_POD} (rate(container_cpu_usage_seconds_total{{{CONTAINERS}}}[{RATE}]))"
MEMORY = f"{BY_POD} (container_memory_working_set_bytes{{{CONTAINERS}}})"


def resources() -> Page:
    """The dashboard of what pods and models need."""
    return Page(
        uid="mesh-resources",
        title="Resource usage per pod and model",
        description="CPU, memory and network as the kubelets see them, and the nodes below.",
        variables=[variables.NAMESPACE, variables.MODEL],
        rows=[_models(), _pods(), _cluster()],
    )


def _models() -> Row:
    tokens = f"sum by (model) (rate(mesh_worker_tokens_total{{{OF_MODEL}}}[{RATE}]))"
    cpu = f"sum by (model) ({CPU} * {WITH_MODEL})"
    return Row(
        "Each model",
        [
            areas("CPU", "Cores, of all replicas.", CORES, Query(cpu, "{{model}}")),
            areas(
                "Memory",
                "Working set, of all replicas.",
                BYTES,
                Query(f"sum by (model) ({MEMORY} * {WITH_MODEL})", "{{model}}"),
            ),
            lines(
                "CPU of a token",
                "CPU seconds for each token, read or written.",
                SECONDS,
                Query(f"{cpu} / ({tokens} > 0)", "{{model}}"),
            ),
        ],
    )


def _pods() -> Row:
    limit = f"{BY_POD} (container_spec_memory_limit_bytes{{{CONTAINERS}}} > 0)"
    throttled = f"{BY_POD} (rate(container_cpu_cfs_throttled_periods_total{{{CONTAINERS}}}[{RATE}]))"
    periods = f"{BY_POD} (rate(container_cpu_cfs_periods_total{{{CONTAINERS}}}[{RATE}]))"
    killed = f"{BY_POD} (increase(container_oom_events_total{{{OF_NAMESPACE}}}[$__range]))"
    received = f"{BY_POD} (rate(container_network_receive_bytes_total{{{OF_NAMESPACE}}}[{RATE}]))"
    sent = f"{BY_POD} (rate(container_network_transmit_bytes_total{{{OF_NAMESPACE}}}[{RATE}]))"
    return Row(
        "Each pod",
        [
            lines("CPU", "Cores.", CORES, Query(CPU, "{{pod}}")),
            lines("Memory", "Working set.", BYTES, Query(MEMORY, "{{pod}}")),
            limited(
                "Memory of its limit",
                "At 1 a container is killed.",
                RATIO,
                0.9,
                Query(f"{MEMORY} / {limit}", "{{pod}}"),
            ),
            limited(
                "Throttled",
                "Share of periods in which a CPU limit stopped it.",
                RATIO,
                0.1,
                Query(f"{throttled} / ({periods} > 0)", "{{pod}}"),
            ),
            lines("Killed for memory", "In the range of time shown.", COUNT, Query(killed, "{{pod}}")),
            lines(
                "Network",
                "Received and sent.",
                BYTES_PER_S,
                Query(received, "{{pod}} received"),
                Query(sent, "{{pod}} sent"),
            ),
        ],
    )


def _cluster() -> Row:
    # Of the mesh only: containers of other namespaces are not scraped.
    cpu = 'sum by (node) (rate(container_cpu_usage_seconds_total{container!="",container!="POD"}'
    memory = 'sum by (node) (container_memory_working_set_bytes{container!="",container!="POD"})'
    volumes = f"max by (namespace, persistentvolumeclaim) (kubelet_volume_stats_used_bytes{{{OF_NAMESPACE}}})"
    sizes = (
        f"max by (namespace, persistentvolumeclaim) (kubelet_volume_stats_capacity_bytes{{{OF_NAMESPACE}}})"
    )
    nodes = "sum by (node) (kubelet_running_pods)"
    return Row(
        "Nodes and API server",
        [
            limited(
                "CPU of the nodes",
                "Share that the mesh uses.",
                RATIO,
                0.9,
                Query(f"{cpu}[{RATE}])) / sum by (node) (machine_cpu_cores)", "{{node}}"),
            ),
            limited(
                "Memory of the nodes",
                "Share that the mesh uses.",
                RATIO,
                0.9,
                Query(f"{memory} / sum by (node) (machine_memory_bytes)", "{{node}}"),
            ),
            lines("Pods", "That each node runs, of all namespaces.", COUNT, Query(nodes, "{{node}}")),
            limited(
                "Volumes",
                "Share that is full.",
                RATIO,
                0.9,
                Query(or_one_zero(f"{volumes} / {sizes}", nodes), "{{persistentvolumeclaim}}"),
            ),
            areas(
                "API server",
                "Requests, by HTTP status.",
                PER_S,
                Query(f"sum by (code) (rate(apiserver_request_total[{RATE}]))", "{{code}}"),
            ),
            lines(
                "API server in flight",
                "By kind.",
                COUNT,
                Query("sum by (request_kind) (apiserver_current_inflight_requests)", "{{request_kind}}"),
            ),
        ],
    )
