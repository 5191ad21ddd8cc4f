"""Who may talk to whom by the NetworkPolicies of an overlay, and who does by its settings.

Owns both readings, each made from the manifests alone. That they agree is for a test to say.
A flow is (from, to, port). Outside of the mesh a side is a word: `names` for the cluster's DNS,
`api` for its API server and kubelets, `internet`, or the namespaces of who comes in.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import yaml

from inference_mesh.config.models_file import parse_models
from tests.support.manifests import (
    Manifest,
    Workload,
    config_file,
    datasources,
    matches,
    of_kind,
    rendered,
    workloads,
)

Flow = tuple[str, str, int]

GRPC_PORT = 50051
INGRESS_OF = {"traefik": "kube-system,traefik", "nginx": "ingress-nginx"}
"""Namespaces that the controllers of an Ingress class are in."""
ADDRESS = re.compile(r"(?P<host>[a-z0-9-]+(?:\.[a-z0-9-]+)*):(?P<port>\d+)")


class Network:
    """The flows of one overlay."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._documents = rendered(name)
        self._workloads = workloads(name)
        self._policies = of_kind(self._documents, "NetworkPolicy")

    def allowed_out(self) -> set[Flow]:
        """What the senders' policies let through."""
        return {flow for one in self._workloads for flow in self._rules(one, "egress")}

    def allowed_in(self) -> set[Flow]:
        """What the receivers' policies let through."""
        return {flow for one in self._workloads for flow in self._rules(one, "ingress")}

    def used(self) -> set[Flow]:
        """What settings, registry, scrape configuration and routes make of the workloads."""
        flows = {*self._calls(), *self._scrapes(), *self._from_outside(), *self._from_operators()}
        return {*flows, *self._names(flows), *self._to_outside()}

    def _rules(self, workload: Workload, direction: str) -> Iterator[Flow]:
        for policy in self._policies:
            spec = policy["spec"]
            is_for_it = policy["metadata"]["namespace"] == workload.namespace and matches(
                spec["podSelector"], workload.labels
            )
            for rule in spec.get(direction, []) if is_for_it else []:
                peers = rule.get("to" if direction == "egress" else "from")
                for peer in self._peers(peers, workload.namespace):
                    for port in rule["ports"]:
                        if direction == "egress":
                            yield workload.name, peer, port["port"]
                        else:
                            yield peer, workload.name, port["port"]

    def _peers(self, peers: list[Manifest] | None, namespace: str) -> Iterator[str]:
        if peers is None:
            yield "api"  # an address of nodes, which no label selects
            return
        for peer in peers:
            if "ipBlock" in peer:
                yield "internet"
                continue
            selector = peer.get(
                "namespaceSelector", {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
            )
            ours = [
                one.name
                for one in self._workloads
                if matches(selector, {"kubernetes.io/metadata.name": one.namespace})
                and matches(peer.get("podSelector", {}), one.labels)
            ]
            yield from ours or ["names" if peer.keys() == {"namespaceSelector"} else _namespaces(selector)]

    def _calls(self) -> Iterator[Flow]:
        """Addresses in settings, in the registry, in Grafana's datasources and in Alloy's configuration."""
        registry = parse_models(
            config_file(self._documents, "gateway-models", "models.yaml"), source="registry"
        )
        services = [str(one.service) for entry in registry.models for one in entry.versions or [entry]]
        for service in services:
            yield self._flow("gateway", service if ":" in service else f"{service}:{GRPC_PORT}")
        for workload in self._workloads:
            for container in workload.containers:
                for value in workload.environment(container).values():
                    for match in ADDRESS.finditer(value.rpartition("@")[2]):
                        if match["host"] != "localhost":
                            yield self._flow(workload.name, match[0])
        yield from (self._flow(caller, urlsplit(url).netloc) for caller, url in self._urls())

    def _urls(self) -> Iterator[tuple[str, str]]:
        """Who calls a URL that stands in a file of its own."""
        yield from (("grafana", source["url"]) for source in datasources(self._name))
        if self._has("alloy"):
            alloy = config_file(self._documents, "alloy-config", "config.alloy")
            yield from (("alloy", url) for url in re.findall(r'url\s*=\s*"([^"]+)"', alloy))

    def _has(self, name: str) -> bool:
        return any(workload.name == name for workload in self._workloads)

    def _flow(self, sender: str, address: str) -> Flow:
        """A call to a Service, as it arrives: at a pod, on the pod's port."""
        host, _, port = address.partition(":")
        receiver = self._behind(host, int(port))
        return sender, receiver[0], receiver[1]

    def _behind(self, host: str, port: int) -> tuple[str, int]:
        service = self._service(host)
        [asked] = [one for one in service["spec"]["ports"] if one["port"] == port]
        target = asked["targetPort"]
        [workload] = [
            one
            for one in self._workloads
            if one.namespace == service["metadata"]["namespace"]
            and matches({"matchLabels": service["spec"]["selector"]}, one.labels)
        ]
        number = target if isinstance(target, int) else workload.ports[target]
        is_headless = service["spec"].get("clusterIP") == "None"
        assert not is_headless or number == port, f"{host} is headless, so its port is the pod's"
        return workload.name, number

    def _service(self, host: str) -> Manifest:
        """The Service of a host name, which may leave its namespace out."""
        name, _, rest = host.partition(".")
        [found] = [
            one
            for one in of_kind(self._documents, "Service")
            if one["metadata"]["name"] == name
            and (not rest or rest in _domains(one["metadata"]["namespace"]))
        ]
        return found

    def _scrapes(self) -> Iterator[Flow]:
        for workload in self._workloads:
            if workload.annotations.get("prometheus.io/scrape") == "true":
                yield "prometheus", workload.name, int(workload.annotations["prometheus.io/port"])

    def _from_outside(self) -> Iterator[Flow]:
        """Ingresses and routes, by the controller of their class."""
        for document in of_kind(self._documents, "Ingress"):
            controller = INGRESS_OF[document["spec"]["ingressClassName"]]
            for rule in document["spec"]["rules"]:
                for path in rule["http"]["paths"]:
                    yield self._routed(controller, document, path["backend"]["service"])
        for gateway in of_kind(self._documents, "Gateway"):
            controller = INGRESS_OF[gateway["spec"]["gatewayClassName"]]
            for route in of_kind(self._documents, "HTTPRoute", "GRPCRoute"):
                for rule in route["spec"]["rules"]:
                    for backend in rule["backendRefs"]:
                        service = {"name": backend["name"], "port": {"number": backend["port"]}}
                        yield self._routed(controller, route, service)

    def _routed(self, controller: str, route: Manifest, backend: Mapping[str, Any]) -> Flow:
        host = f"{backend['name']}.{route['metadata']['namespace']}"
        ports = self._service(host)["spec"]["ports"]
        [port] = [
            one["port"]
            for one in ports
            if backend["port"] in ({"name": one["name"]}, {"number": one["port"]})
        ]
        return controller, *self._behind(host, port)

    def _from_operators(self) -> Iterator[Flow]:
        for scaled in of_kind(self._documents, "ScaledObject"):
            for trigger in scaled["spec"]["triggers"]:
                address = urlsplit(trigger["metadata"]["serverAddress"])
                yield "keda", *self._behind(str(address.hostname), int(address.port or 80))
        for monitor in of_kind(self._documents, "ServiceMonitor"):
            namespaces = monitor["spec"]["namespaceSelector"]["matchNames"]
            watched = {one.name for one in self._workloads if one.namespace in namespaces}
            yield from (
                ("monitoring", receiver, port) for _, receiver, port in self._scrapes() if receiver in watched
            )

    def _names(self, flows: set[Flow]) -> Iterator[Flow]:
        """Who calls by a name has to ask for it; Prometheus has the addresses from the API server."""
        senders = {sender for sender, _, _ in flows} & {one.name for one in self._workloads}
        for sender in {*senders, *self._fetchers()} - {"prometheus"}:
            yield sender, "names", 53

    def _to_outside(self) -> Iterator[Flow]:
        for fetcher in self._fetchers():
            yield fetcher, "internet", 443
        jobs = yaml.safe_load(config_file(self._documents, "prometheus-config", "prometheus.yml"))
        if self._has("alloy"):
            yield from (("alloy", "api", port) for port in (443, 6443))
        roles = {
            discovery["role"]
            for job in jobs["scrape_configs"]
            for discovery in job.get("kubernetes_sd_configs", [])
        }
        if roles:
            yield from (("prometheus", "api", port) for port in (443, 6443))
        if "node" in roles:
            yield "prometheus", "api", 10250

    def _fetchers(self) -> Iterator[str]:
        for workload in self._workloads:
            if any("MODEL_FILES" in workload.environment(one) for one in workload.all_containers):
                yield workload.name


def _namespaces(selector: Mapping[str, Any]) -> str:
    """Namespaces that a selector names."""
    names = [selector.get("matchLabels", {}).get("kubernetes.io/metadata.name")]
    names += [value for one in selector.get("matchExpressions", []) for value in one["values"]]
    return ",".join(sorted(name for name in names if name))


def _domains(namespace: str) -> tuple[str, ...]:
    """What may follow the name of a Service in this namespace."""
    return namespace, f"{namespace}.svc", f"{namespace}.svc.cluster.local"
