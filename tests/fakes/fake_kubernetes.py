"""A small API server of Kubernetes, on loopback, for a real `kubectl apply`.

It knows discovery, the OpenAPI documents that kubectl looks into before it sends anything, and
objects that are read, created and patched. It refuses kinds that it does not know and objects
of namespaces that are not there, and fills in fields as a real one does. It runs nothing.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import re
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]
Answer = tuple[int, Json]
Key = tuple[str, str, str]

OBJECT = re.compile(
    r"/(?P<version>api/v1|apis/[^/]+/[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[a-z]+)(?:/(?P<name>[^/]+))?"
)
MAX_ANNOTATION_BYTES = 256 * 1024
"""All annotations of an object together; kubectl keeps the whole object in one of them."""
OPEN_API_2 = "/openapi/v2"
CUSTOM_KINDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
"""Both are where kubectl looks for kinds that /openapi/v3 does not have; the first is an empty protobuf."""
PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
PATCHES = ("application/strategic-merge-patch+json", "application/merge-patch+json")


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of objects. version: as in apiVersion."""

    version: str
    kind: str
    plural: str
    is_namespaced: bool = True

    @property
    def prefix(self) -> str:
        """Beginning of its paths."""
        return f"apis/{self.version}" if "/" in self.version else f"api/{self.version}"

    @property
    def identity(self) -> Json:
        """Group, version and kind."""
        group, _, version = self.version.rpartition("/")
        return {"group": group, "version": version, "kind": self.kind}


def kinds(version: str, *names: str, is_namespaced: bool = True) -> tuple[Kind, ...]:
    """Kinds of one API version, each as `Kind` or, where its plural is not regular, `Kind/plural`."""
    found = []
    for name in names:
        kind, _, plural = name.partition("/")
        found.append(Kind(version, kind, plural or f"{kind.lower()}s", is_namespaced))
    return tuple(found)


BUILT_IN = (
    *kinds("v1", "Namespace", is_namespaced=False),
    *kinds("v1", "ConfigMap", "Secret", "Service", "ServiceAccount", "LimitRange", "ResourceQuota"),
    *kinds("v1", "PersistentVolumeClaim"),
    *kinds("apps/v1", "Deployment", "StatefulSet"),
    *kinds("autoscaling/v2", "HorizontalPodAutoscaler"),
    *kinds("networking.k8s.io/v1", "Ingress/ingresses", "NetworkPolicy/networkpolicies"),
    *kinds("policy/v1", "PodDisruptionBudget"),
    *kinds("rbac.authorization.k8s.io/v1", "ClusterRole", "ClusterRoleBinding", is_namespaced=False),
    *kinds("rbac.authorization.k8s.io/v1", "Role", "RoleBinding"),
    *kinds("scheduling.k8s.io/v1", "PriorityClass/priorityclasses", is_namespaced=False),
)
OF_OPERATORS = (
    *kinds("cert-manager.io/v1", "Certificate"),
    *kinds("gateway.networking.k8s.io/v1", "Gateway", "GRPCRoute", "HTTPRoute"),
    *kinds("inference.networking.k8s.io/v1", "InferencePool"),
    *kinds("keda.sh/v1alpha1", "ScaledObject"),
    *kinds("monitoring.coreos.com/v1", "PrometheusRule", "ServiceMonitor"),
)


class FakeKubernetes:
    """The objects of a cluster by kind, namespace and name, and how often one was changed."""

    def __init__(self, known: Iterable[Kind] = BUILT_IN) -> None:
        self._kinds = {(one.prefix, one.plural): one for one in known}
        self.objects: dict[Key, Json] = {}
        self._version = 1000
        self._lock = threading.Lock()

    def install(self, known: Iterable[Kind]) -> None:
        """Know more kinds from now on, as after their CRDs."""
        self._kinds |= {(one.prefix, one.plural): one for one in known}

    def versions(self) -> dict[Key, str]:
        """The version of every object; it changes with the object."""
        return {key: one["metadata"]["resourceVersion"] for key, one in self.objects.items()}

    def answer(self, method: str, path: str, content_type: str, body: Json | None) -> Answer:
        """Status and JSON of one request."""
        with self._lock:
            page = self._page(path)
            if page is not None:
                return 200, page
            match = OBJECT.fullmatch(path)
            kind = self._kinds.get((match["version"], match["plural"])) if match else None
            if match is None or kind is None or (match["namespace"] is not None) != kind.is_namespaced:
                return _failure(404, "NotFound", "the server could not find the requested resource")
            namespace = match["namespace"] or ""
            if method == "POST" and body is not None:
                return self._create(kind, namespace, body)
            key = (kind.kind, namespace, match["name"] or "")
            if key not in self.objects:
                return _failure(404, "NotFound", f'{kind.plural} "{match["name"]}" not found')
            if method == "PATCH" and body is not None:
                return self._patch(key, content_type, body)
            return 200, self.objects[key]

    def _create(self, kind: Kind, namespace: str, body: Json) -> Answer:
        metadata = body["metadata"]
        if (body["apiVersion"], body["kind"]) != (kind.version, kind.kind):
            return _failure(400, "BadRequest", f"{body['kind']} does not belong to this path")
        if metadata.get("namespace", "") != namespace:
            return _failure(400, "BadRequest", "the namespace of the object is not that of the request")
        if namespace and ("Namespace", "", namespace) not in self.objects:
            return _failure(404, "NotFound", f'namespaces "{namespace}" not found')
        annotations = metadata.get("annotations", {})
        if sum(len(name) + len(text) for name, text in annotations.items()) > MAX_ANNOTATION_BYTES:
            return _failure(422, "Invalid", "metadata.annotations: Too long")
        key = (kind.kind, namespace, metadata["name"])
        if key in self.objects:
            return _failure(409, "AlreadyExists", f'{kind.plural} "{metadata["name"]}" already exists')
        created = {**metadata, "uid": f"uid-{self._version}", "creationTimestamp": "2026-01-01T00:00:00Z"}
        self._keep(key, _defaulted({**body, "metadata": created}))
        return 201, self.objects[key]

    def _patch(self, key: Key, content_type: str, patch: Json) -> Answer:
        if content_type not in PATCHES:
            return _failure(415, "UnsupportedMediaType", f"cannot apply {content_type}")
        before = self.objects[key]
        after = merged(before, patch)
        if after != before:
            self._keep(key, after)
        return 200, self.objects[key]

    def _keep(self, key: Key, document: Json) -> None:
        self._version += 1
        metadata = {**document["metadata"], "resourceVersion": str(self._version)}
        self.objects[key] = {**document, "metadata": metadata}

    def _page(self, path: str) -> Json | None:
        """Discovery and OpenAPI; None if the path is neither."""
        prefixes = sorted({one.prefix for one in self._kinds.values()})
        versions = [prefix.removeprefix("apis/") for prefix in prefixes if prefix.startswith("apis/")]
        pages: dict[str, Json] = {
            "/api": {"kind": "APIVersions", "versions": ["v1"]},
            "/apis": {
                "kind": "APIGroupList",
                "apiVersion": "v1",
                "groups": [_group(one) for one in versions],
            },
            "/openapi/v3": {"paths": {one: {"serverRelativeURL": f"/openapi/v3/{one}"} for one in prefixes}},
            OPEN_API_2: {},
            CUSTOM_KINDS: {"kind": "CustomResourceDefinitionList", "metadata": {}, "items": []},
            "/version": {"major": "1", "minor": "37", "gitVersion": "v1.37.0"},
        }
        if path in pages:
            return pages[path]
        if path.removeprefix("/") in prefixes:
            return _resources(self._of(path.removeprefix("/")))
        if path.removeprefix("/openapi/v3/") in prefixes:
            return _open_api(self._of(path.removeprefix("/openapi/v3/")))
        return None

    def _of(self, prefix: str) -> list[Kind]:
        return [one for one in self._kinds.values() if one.prefix == prefix]


def merged(before: Any, patch: Any) -> Any:
    """A merge patch applied: null removes, mappings are merged, all else takes its place.

    Lists take their place as well: kubectl sends none for an object that is as it was.
    """
    if not isinstance(patch, dict) or not isinstance(before, dict) or patch.get("$patch") == "replace":
        return copy.deepcopy(_plain(patch))
    removed = {key for key, value in patch.items() if value is None}
    changed = {key: merged(before.get(key), patch[key]) for key in _plain(patch).keys() - removed}
    return {**{key: value for key, value in before.items() if key not in removed}, **changed}


def _plain(patch: Any) -> Any:
    """Without the directives of a strategic merge, which are orders and no fields."""
    return {key: value for key, value in patch.items() if key[0] != "$"} if isinstance(patch, dict) else patch


def _defaulted(document: Json) -> Json:
    """With the fields that a real server adds, which a second apply must leave alone."""
    document = copy.deepcopy(document)
    if document["kind"] == "Service":
        document["spec"].setdefault("clusterIP", "10.0.0.1")
        document["spec"].setdefault("sessionAffinity", "None")
    if document["kind"] in ("Deployment", "StatefulSet"):
        document["spec"].setdefault("replicas", 1)
        document["spec"].setdefault("revisionHistoryLimit", 10)
    if document["kind"] == "Namespace":
        document["spec"] = {"finalizers": ["kubernetes"]}
    return {**document, "status": {}} if "spec" in document else document


def _group(version: str) -> Json:
    name, _, short = version.partition("/")
    entry = {"groupVersion": version, "version": short}
    return {"name": name, "versions": [entry], "preferredVersion": entry}


def _resources(known: list[Kind]) -> Json:
    entries = [
        {
            "name": one.plural,
            "singularName": one.kind.lower(),
            "namespaced": one.is_namespaced,
            "kind": one.kind,
            "verbs": ["create", "get", "list", "patch"],
        }
        for one in known
    ]
    return {"kind": "APIResourceList", "groupVersion": known[0].version, "resources": entries}


def _open_api(known: list[Kind]) -> Json:
    """What kubectl asks of it: whether the server checks the fields itself, so that it need not."""
    parameter = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}
    paths = {}
    for one in known:
        namespace = "namespaces/{namespace}/" if one.is_namespaced else ""
        paths[f"/{one.prefix}/{namespace}{one.plural}/{{name}}"] = {
            "patch": {
                "parameters": [parameter],
                "responses": {},
                "x-kubernetes-action": "patch",
                "x-kubernetes-group-version-kind": one.identity,
            }
        }
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.37.0"}, "paths": paths}


def _failure(code: int, reason: str, message: str) -> Answer:
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return code, {**status, "message": message, "reason": reason, "code": code}


@contextlib.contextmanager
def running(api: FakeKubernetes, kubeconfig: Path) -> Iterator[None]:
    """Serve it, and write the configuration by which kubectl finds it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body in one packet, at once: else each answer waits 40 ms for an acknowledgement.
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def do_PATCH(self) -> None:
            self.do_POST()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def _answer(self, body: Json | None) -> None:
            content_type = self.headers.get("content-type", "")
            path = urlsplit(self.path).path
            status, document = api.answer(self.command, path, content_type, body)
            text = b"" if path == OPEN_API_2 else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", PROTOBUF if path == OPEN_API_2 else "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    kubeconfig.write_text(json.dumps(_kubeconfig(f"http://127.0.0.1:{server.server_port}")))
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def _kubeconfig(server: str) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "fake", "cluster": {"server": server}}],
        "users": [{"name": "me", "user": {}}],
        "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "me"}}],
        "current-context": "fake",
    }
