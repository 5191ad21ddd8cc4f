"""A small HTTP server of pages of text, in a thread of its own: what an exporter is to Prometheus."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator, Mapping


@contextlib.contextmanager
def text_pages(pages: Mapping[str, Callable[[], str]]) -> Iterator[str]:
    """The URL of a server on a free port of loopback, ended with the block. pages: by path."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            page = pages.get(self.path)
            self.send_response(404 if page is None else 200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(b"" if page is None else page().encode())

        def log_message(self, format: str, *args: object) -> None:  # the library's name
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
