"""Callers from outside: what they may ask for, by which name, and never in clear text."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from scripts.check_manifests import KUSTOMIZE, overlays
from tests.support.manifests import Manifest, named, of_kind, rendered
from tests.support.network_flows import Network

PROD = "overlays/prod"
HTTP_CHALLENGE_PORT = 8089
"""Where cert-manager's solver of HTTP-01 listens; source: cert-manager.io/docs/configuration/acme/http01."""
SOLVER = {"acme.cert-manager.io/http01-solver": "true"}
ISSUER = "cert-manager.io/cluster-issuer"
TRAEFIK = "traefik.ingress.kubernetes.io/router"

with_ingress = pytest.mark.parametrize(
    "name", [name for name in overlays() if of_kind(rendered(name), "Ingress")]
)


def routes(name: str) -> set[tuple[str, str, str]]:
    """(host, path, Service) of every Ingress."""
    return {
        (rule["host"], path["path"], path["backend"]["service"]["name"])
        for ingress in of_kind(rendered(name), "Ingress")
        for rule in ingress["spec"]["rules"]
        for path in rule["http"]["paths"]
    }


def hosts_of(name: str) -> dict[str, str]:
    """The hosts.env of an overlay."""
    lines = (KUSTOMIZE / name / "hosts.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if not line.startswith("#"))


def copy_of_prod(folder: Path, old: str, new: str) -> str:
    """prod with one line of its kustomization changed, as its user would; a name for `rendered`."""
    shutil.copytree(KUSTOMIZE, folder / "kustomize")
    shutil.copytree(KUSTOMIZE.parent / "observability", folder / "observability")
    path = folder / "kustomize" / PROD / "kustomization.yaml"
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))
    return str(path.parent)


def test_prod_routes_the_three_prefixes_to_the_bridge_and_a_host_of_its_own_to_the_gateway() -> None:
    hosts = hosts_of(PROD)
    assert hosts["REST_HOST"] != hosts["GRPC_HOST"]
    assert routes(PROD) == {
        *((hosts["REST_HOST"], path, "rest-bridge") for path in ("/api", "/v1", "/v2")),
        (hosts["GRPC_HOST"], "/", "gateway"),
    }


@with_ingress
def test_every_host_has_a_certificate_and_is_served_by_tls_alone(name: str) -> None:
    ingresses = of_kind(rendered(name), "Ingress")
    covered = {host for one in ingresses for tls in one["spec"].get("tls", []) for host in tls["hosts"]}
    for ingress in ingresses:
        assert {rule["host"] for rule in ingress["spec"]["rules"]} <= covered
        if ingress["spec"]["ingressClassName"] == "traefik":
            # `spec.tls` brings certificates, and no TLS, to Traefik's router.
            annotations = ingress["metadata"]["annotations"]
            assert (annotations[f"{TRAEFIK}.entrypoints"], annotations[f"{TRAEFIK}.tls"]) == (
                "websecure",
                "true",
            )


@with_ingress
def test_cert_manager_can_answer_who_asks_over_http_in_spite_of_policies_and_quotas(name: str) -> None:
    documents = rendered(name)
    certified = [
        one for one in of_kind(documents, "Ingress") if ISSUER in one["metadata"].get("annotations", {})
    ]
    policies = [
        one["spec"]
        for one in of_kind(documents, "NetworkPolicy")
        if one["spec"]["podSelector"] == {"matchLabels": SOLVER}
    ]
    assert len(policies) == (1 if certified else 0)
    if certified:
        [rule] = policies[0]["ingress"]
        bridge = named(documents, "NetworkPolicy", "ai-gateway", "rest-bridge-from-ingress")
        assert rule["from"] == bridge["spec"]["ingress"][0]["from"]
        assert [port["port"] for port in rule["ports"]] == [HTTP_CHALLENGE_PORT]
        quota = named(documents, "ResourceQuota", "ai-gateway", "quota")
        assert int(quota["spec"]["hard"]["services.nodeports"]) == len(certified)


def test_the_class_is_one_line_of_the_overlay(tmp_path: Path) -> None:
    name = copy_of_prod(tmp_path, "components/ingress-traefik", "components/ingress-nginx")
    assert routes(name) == routes(PROD)
    ingresses = of_kind(rendered(name), "Ingress")
    assert {one["spec"]["ingressClassName"] for one in ingresses} == {"nginx"}
    [grpc] = [one for one in ingresses if one["metadata"]["name"] == "gateway"]
    assert grpc["metadata"]["annotations"]["nginx.ingress.kubernetes.io/backend-protocol"] == "GRPC"
    network = Network(name)
    coming = {flow for flow in network.allowed_in() if flow[0] == "ingress-nginx"}
    assert coming == {("ingress-nginx", "rest-bridge", 8080), ("ingress-nginx", "gateway", 50051)}
    assert not any("traefik" in flow[0] for flow in network.allowed_in())


def test_certificates_of_ones_own_are_one_line_less(tmp_path: Path) -> None:
    name = copy_of_prod(tmp_path, "  - ../../components/tls-cert-manager\n", "")

    def secrets(documents: tuple[Manifest, ...]) -> set[str]:
        return {tls["secretName"] for one in of_kind(documents, "Ingress") for tls in one["spec"]["tls"]}

    assert secrets(rendered(name)) == secrets(rendered(PROD)) == {"rest-bridge-tls", "gateway-tls"}
    assert not any(ISSUER in one["metadata"]["annotations"] for one in of_kind(rendered(name), "Ingress"))


def test_a_bridge_reaches_every_gateway_by_name_and_callers_from_outside_one_address() -> None:
    documents = rendered(PROD)
    balanced = named(documents, "Service", "ai-gateway", "gateway-pods")["spec"]
    assert balanced["clusterIP"] == "None"
    assert balanced["publishNotReadyAddresses"] is False
    outside = named(documents, "Service", "ai-gateway", "gateway")["spec"]
    assert "clusterIP" not in outside
    assert balanced["selector"] == outside["selector"]
    [settings] = [
        one["data"]
        for one in of_kind(documents, "ConfigMap")
        if one["metadata"]["name"].startswith("rest-bridge-settings-")
    ]
    assert settings["MESH_BRIDGE_GATEWAY"].startswith("gateway-pods.ai-gateway.svc")
