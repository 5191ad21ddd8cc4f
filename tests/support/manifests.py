"""The manifests of kustomize/, rendered by the real kubectl, and what their workloads say.

Owns rendering and reading. What must be so is the business of the tests.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from scripts.check_manifests import HINT, KUSTOMIZE

NAMESPACES = ("ai-gateway", "ai-infra", "ai-models", "ai-observability")
RENDER_LIMIT_S = 60
# An overlay has 300 KB of dashboards, for which the loader in Python takes seconds.
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Manifest = dict[str, Any]


def kubectl() -> str:
    """Path of kubectl. Without it nothing here is proven, so a test fails and is never skipped."""
    program = shutil.which("kubectl")
    if program is None:
        raise AssertionError(f"kubectl is missing: {HINT}")
    return program


@functools.cache
def rendered_text(name: str) -> str:
    """What `kubectl kustomize` makes of it, with no further flag."""
    command = [kubectl(), "kustomize", str(KUSTOMIZE / name)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=RENDER_LIMIT_S)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@functools.cache
def rendered(name: str) -> tuple[Manifest, ...]:
    """The objects of an overlay; not to be changed, because all tests share them."""
    return tuple(yaml.load_all(rendered_text(name), Loader=LOADER))


def of_kind(documents: tuple[Manifest, ...], *kinds: str) -> list[Manifest]:
    """The objects of these kinds."""
    return [one for one in documents if one["kind"] in kinds]


def full_name(document: Manifest) -> str:
    """kind/namespace/name."""
    metadata = document["metadata"]
    return "/".join(part for part in (document["kind"], metadata.get("namespace"), metadata["name"]) if part)


def named(documents: tuple[Manifest, ...], kind: str, namespace: str, name: str) -> Manifest:
    """The one object of this kind and name."""
    [found] = [one for one in documents if full_name(one) == f"{kind}/{namespace}/{name}"]
    return found


@dataclasses.dataclass(frozen=True)
class Workload:
    """A Deployment or StatefulSet: pods that run until they are stopped."""

    document: Manifest
    documents: tuple[Manifest, ...]
    """All objects of its overlay."""

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.document["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return str(self.document["metadata"]["namespace"])

    @property
    def labels(self) -> dict[str, str]:
        """Labels of its pods."""
        labels: dict[str, str] = self.document["spec"]["template"]["metadata"]["labels"]
        return labels

    @property
    def annotations(self) -> dict[str, str]:
        """Annotations of its pods."""
        annotations: dict[str, str] = self.document["spec"]["template"]["metadata"].get("annotations", {})
        return annotations

    @property
    def pod(self) -> Manifest:
        """The spec of its pods."""
        pod: Manifest = self.document["spec"]["template"]["spec"]
        return pod

    @property
    def containers(self) -> list[Manifest]:
        """The containers that run all the time."""
        containers: list[Manifest] = self.pod["containers"]
        return containers

    @property
    def all_containers(self) -> list[Manifest]:
        """Those that run before them as well."""
        return [*self.pod.get("initContainers", []), *self.containers]

    @property
    def ports(self) -> dict[str, int]:
        """Ports of its containers, by name."""
        return {
            port["name"]: port["containerPort"] for one in self.containers for port in one.get("ports", [])
        }

    def environment(self, container: Manifest) -> dict[str, str]:
        """Variables of a container as they will be; what a Secret or the pod knows is a made-up word."""
        found = self._settings(container)
        for one in container.get("env", []):
            found[one["name"]] = _expanded(one.get("value", "made-up"), found)
        return found

    def environment_without_secrets(self, container: Manifest) -> dict[str, str]:
        """The same while no Secret is there: a variable that is made of one does not exist."""
        found = self._settings(container)
        for one in container.get("env", []):
            if "secretKeyRef" not in one.get("valueFrom", {}):
                found[one["name"]] = _expanded(one.get("value", "made-up"), found)
        return found

    def _settings(self, container: Manifest) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in container.get("envFrom", []):
            found |= self._config_map(source["configMapRef"]["name"])["data"]
        return found

    def _config_map(self, name: str) -> Manifest:
        return named(self.documents, "ConfigMap", self.namespace, name)


def workloads(name: str) -> list[Workload]:
    """The workloads of an overlay."""
    documents = rendered(name)
    return [Workload(one, documents) for one in of_kind(documents, "Deployment", "StatefulSet")]


def config_file(documents: tuple[Manifest, ...], prefix: str, key: str) -> str:
    """A file of the ConfigMap whose name begins like this; a hash may follow."""
    pattern = re.compile(rf"{re.escape(prefix)}(-[a-z0-9]{{10}})?")
    [found] = [one for one in of_kind(documents, "ConfigMap") if pattern.fullmatch(one["metadata"]["name"])]
    return str(found["data"][key])


def datasources(name: str) -> list[Manifest]:
    """Grafana's datasources, from every file that its Deployment mounts where Grafana looks for them."""
    [grafana] = [one for one in workloads(name) if one.name == "grafana"]
    [volume] = [one["projected"]["sources"] for one in grafana.pod["volumes"] if "projected" in one]
    found: list[Manifest] = []
    for source in (one["configMap"] for one in volume):
        config = named(rendered(name), "ConfigMap", grafana.namespace, source["name"])
        for item in source["items"]:
            if item["path"].startswith("datasources/"):
                found += yaml.safe_load(config["data"][item["key"]])["datasources"]
    return found


def overlay_of(folder: Path, base: str, *components: str) -> str:
    """A name for `rendered`: an overlay on this one with components beside it, as a user would write it."""
    ways = {one: os.path.relpath(KUSTOMIZE / one, folder.resolve()) for one in (base, *components)}
    document = {"resources": [ways[base]], "components": [ways[one] for one in components]}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(document))
    return str(folder)


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector takes these labels; an empty one takes all."""
    if any(labels.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_fits(one, labels) for one in selector.get("matchExpressions") or ())


def mappings(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping inside a value, itself included."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from mappings(part)


def _expanded(value: str, known: Mapping[str, str]) -> str:
    """With the variables that it names; Kubernetes leaves one that does not exist as it stands."""
    return re.sub(r"\$\((\w+)\)", lambda match: known.get(match[1], match[0]), value)


def _fits(expression: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    operators = {
        "In": value in expression.get("values", ()),
        "NotIn": value not in expression.get("values", ()),
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }
    return operators[expression["operator"]]
