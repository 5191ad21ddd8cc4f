"""A service of the mesh in the smallest form: ports, /readyz, a port file, and ways to misbehave."""

from __future__ import annotations

import argparse
import http.server
import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path in ("/readyz", "/healthz") else 404)
        self.end_headers()
        self.wfile.write(b'{"ready": true, "detail": {}}')

    def log_message(self, format: str, *args: object) -> None:
        return None


def main() -> None:
    """Serve until SIGTERM; exit at once with --exit-code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--grpc-port", type=int)
    parser.add_argument("--http-port", "--port", type=int, default=0)
    parser.add_argument("--port-file", type=Path, required=True)
    parser.add_argument("--exit-code", type=int, help="end before being ready")
    parser.add_argument("--ignore-sigterm", action="store_true")
    parser.add_argument("--trace", type=Path, help="file that gets a line at the start and at SIGTERM")
    parser.add_argument("--name", default="fake")
    options = parser.parse_args()
    if options.exit_code is not None:
        print(json.dumps({"event": "model not loaded", "error": "the file is damaged"}), file=sys.stderr)
        sys.exit(options.exit_code)
    stopping = threading.Event()

    def on_signal(number: int, frame: object) -> None:
        _trace(options.trace, f"stop {options.name}")
        if not options.ignore_sigterm:
            stopping.set()

    signal.signal(signal.SIGTERM, on_signal)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", options.http_port), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    if options.grpc_port is not None:
        listener = socket.create_server(("127.0.0.1", options.grpc_port))
        assert listener.fileno() >= 0
    _trace(options.trace, f"start {options.name}")
    _write_port_file(options.port_file, {"http": server.server_port, "grpc": options.grpc_port})
    stopping.wait()


def _write_port_file(path: Path, ports: dict[str, int | None]) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps({**ports, "pid": os.getpid()}))
    temporary.replace(path)


def _trace(path: Path | None, line: str) -> None:
    if path is not None:
        with path.open("a") as stream:
            stream.write(f"{line}\n")


if __name__ == "__main__":
    main()
