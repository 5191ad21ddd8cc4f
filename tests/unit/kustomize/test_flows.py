"""The NetworkPolicies let through exactly what settings and configuration make the pods say."""

from __future__ import annotations

import pytest

from scripts.check_manifests import overlays
from tests.support.manifests import NAMESPACES, of_kind, rendered, workloads
from tests.support.network_flows import Flow, Network

OUTSIDE = {"names", "api", "internet"}

each_overlay = pytest.mark.parametrize("name", overlays())


def from_pods(flows: set[Flow], name: str) -> set[Flow]:
    """Those that a pod of the mesh begins."""
    ours = {one.name for one in workloads(name)}
    return {flow for flow in flows if flow[0] in ours}


def to_pods(flows: set[Flow]) -> set[Flow]:
    """Those that a pod of the mesh receives."""
    return {flow for flow in flows if flow[1] not in OUTSIDE}


@each_overlay
def test_pods_may_call_whom_they_call_and_nobody_else(name: str) -> None:
    network = Network(name)
    assert network.allowed_out() == from_pods(network.used(), name)


@each_overlay
def test_pods_may_be_called_by_who_calls_them_and_by_nobody_else(name: str) -> None:
    network = Network(name)
    assert network.allowed_in() == to_pods(network.used())


def test_prod_has_the_flows_of_the_design() -> None:
    assert Network("overlays/prod").used() == {
        ("kube-system,traefik", "rest-bridge", 8080),
        ("kube-system,traefik", "gateway", 50051),
        ("rest-bridge", "gateway", 50051),
        ("rest-bridge", "names", 53),
        ("gateway", "names", 53),
        ("gateway", "llm", 50051),
        ("gateway", "embeddings", 50051),
        ("gateway", "redis", 6379),
        ("grafana", "names", 53),
        ("grafana", "prometheus", 9090),
        ("prometheus", "gateway", 8080),
        ("prometheus", "rest-bridge", 8080),
        ("prometheus", "llm", 8080),
        ("prometheus", "embeddings", 8080),
        ("prometheus", "redis", 9121),
        ("prometheus", "api", 443),
        ("prometheus", "api", 6443),
        ("prometheus", "api", 10250),
    }


def test_a_model_that_is_served_calls_nobody_unless_its_files_are_fetched() -> None:
    workers = {one.name for name in overlays() for one in workloads(name) if one.namespace == "ai-models"}
    calling = {flow[0] for name in overlays() for flow in Network(name).allowed_out() if flow[0] in workers}
    tracing = Network("examples/telemetry").allowed_out()
    traced = {flow for flow in tracing if flow[0] in workers}
    assert {flow[1:] for flow in traced} == {("tempo", 4317), ("names", 53)}
    assert calling - {flow[0] for flow in traced} == {"llm-qwen"}


@each_overlay
def test_every_rule_names_ports_and_every_sender(name: str) -> None:
    for policy in of_kind(rendered(name), "NetworkPolicy"):
        assert policy["metadata"]["namespace"] in NAMESPACES
        for rule in policy["spec"].get("ingress", []):
            assert rule["ports"]
            assert rule["from"]
            assert all("podSelector" in peer for peer in rule["from"])


def test_what_is_fetched_from_the_internet_is_never_an_address_of_the_cluster() -> None:
    blocks = [
        peer["ipBlock"]
        for policy in of_kind(rendered("examples/model-files-pvc"), "NetworkPolicy")
        for rule in policy["spec"].get("egress", [])
        for peer in rule.get("to", [])
        if "ipBlock" in peer
    ]
    assert len(blocks) == 1
    private = {
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "169.254.0.0/16",
        "127.0.0.0/8",
        "100.64.0.0/10",
    }
    assert private <= set(blocks[0]["except"])
