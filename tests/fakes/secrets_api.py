"""The part of a Kubernetes API server that kubectl needs for Secrets, on loopback.

It knows namespaces, versions of objects and the answers to what does not fit; nothing of it is
checked against rights.
"""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

NAMESPACES = ("ai-gateway", "ai-models", "ai-observability", "ai-infra")
SECRETS = re.compile(r"/api/v1/namespaces/(?P<namespace>[^/?]+)/secrets(?:/(?P<name>[^/?]+))?(?:\?.*)?")
VERBS = ["create", "get", "list", "update"]
DISCOVERY: dict[str, dict[str, Any]] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            {
                "name": "secrets",
                "singularName": "secret",
                "namespaced": True,
                "kind": "Secret",
                "verbs": VERBS,
            }
        ],
    },
}


class SecretsApi:
    """The Secrets of a cluster, by namespace and name, and what was asked of it.

    before_write: called before each change, as somebody who is faster.
    """

    def __init__(self, namespaces: tuple[str, ...] = NAMESPACES) -> None:
        self.namespaces = namespaces
        self.secrets: dict[tuple[str, str], dict[str, Any]] = {}
        self.before_write: Callable[[], None] = lambda: None
        self.writes = 0
        self._version = 100

    def put(self, secret: dict[str, Any]) -> dict[str, Any]:
        """Keep a Secret under the next version."""
        self._version += 1
        metadata = {**secret["metadata"], "resourceVersion": str(self._version), "uid": "1-2-3"}
        kept = {**secret, "metadata": metadata}
        self.secrets[metadata["namespace"], metadata["name"]] = kept
        return kept

    def answer(self, method: str, path: str, body: dict[str, Any] | None) -> tuple[int, dict[str, Any]]:
        """Status and JSON of one request."""
        if path.partition("?")[0] in DISCOVERY:
            return 200, DISCOVERY[path.partition("?")[0]]
        match = SECRETS.fullmatch(path)
        if match is None:
            return _status(404, "NotFound", "the server could not find the requested resource")
        if match["namespace"] not in self.namespaces:
            return _status(404, "NotFound", f'namespaces "{match["namespace"]}" not found')
        if body is None:
            return self._get((match["namespace"], match["name"]))
        self.before_write()
        return self._write(method, (match["namespace"], body["metadata"]["name"]), body)

    def _get(self, key: tuple[str, str]) -> tuple[int, dict[str, Any]]:
        found = self.secrets.get(key)
        return (200, found) if found else _status(404, "NotFound", f'secrets "{key[1]}" not found')

    def _write(self, method: str, key: tuple[str, str], body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        found = self.secrets.get(key)
        if method == "POST" and found:
            return _status(409, "AlreadyExists", f'secrets "{key[1]}" already exists')
        if method == "PUT" and not found:
            return _status(404, "NotFound", f'secrets "{key[1]}" not found')
        if found and body["metadata"].get("resourceVersion") != found["metadata"]["resourceVersion"]:
            return _status(409, "Conflict", "the object has been modified; please apply your changes to it")
        self.writes += 1
        return (201 if method == "POST" else 200), self.put(body)


@contextlib.contextmanager
def running(api: SecretsApi, kubeconfig: Path) -> Iterator[None]:
    """Serve it, and write the configuration by which kubectl finds it."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(None)

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

        def do_PUT(self) -> None:
            self.do_POST()

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

        def _answer(self, body: dict[str, Any] | None) -> None:
            status, document = api.answer(self.command, self.path, body)
            text = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    kubeconfig.write_text(json.dumps(_kubeconfig(f"http://127.0.0.1:{server.server_port}")))
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def _status(code: int, reason: str, message: str) -> tuple[int, dict[str, Any]]:
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
    return code, {**status, "message": message, "reason": reason, "code": code}


def _kubeconfig(server: str) -> dict[str, Any]:
    """One good context, which is not the current one, and one that leads nowhere."""
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": "fake", "cluster": {"server": server}},
            {"name": "nowhere", "cluster": {"server": "http://127.0.0.1:1"}},
        ],
        "users": [{"name": "me", "user": {}}],
        "contexts": [
            {"name": name, "context": {"cluster": name, "user": "me"}} for name in ("fake", "nowhere")
        ],
        "current-context": "fake",
    }
