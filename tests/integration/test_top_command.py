"""`mesh top` against servers of metrics: good ones, bad ones, and the ends of the program."""

from __future__ import annotations

import http.server
import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from mesh_cli.top.scrape import MAX_PAGE_BYTES
from tests.support.meshes import ROOT, mesh

LIMIT_S = 30.0
QUICK = ("--interval", "0.3")
HIDE_CURSOR, SHOW_CURSOR = b"\x1b[?25l", b"\x1b[?25h"


def _gateway_page(calls: int, started_s: int = 1000) -> bytes:
    return (
        f"process_start_time_seconds {started_s}\n"
        f'mesh_gateway_requests_total{{model="chat",method="Infer",code="OK"}} {calls}\n'
        'mesh_gateway_endpoint_ready{model="chat",endpoint="a:1"} 1\n'
    ).encode()


@contextmanager
def _serving(answer: Callable[[http.server.BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """host:port of a server that answers every GET so, for the length of a block."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            try:
                answer(self)
            except (BrokenPipeError, ConnectionResetError):
                return

        def log_message(self, format: str, *args: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _with_pages(*pages: bytes, status: int = 200) -> Callable[[http.server.BaseHTTPRequestHandler], None]:
    """Answers with one page after the other; the last one stays."""
    left = list(pages)

    def answer(request: http.server.BaseHTTPRequestHandler) -> None:
        page = left.pop(0) if len(left) > 1 else left[0]
        request.send_response(status)
        request.end_headers()
        request.wfile.write(page)

    return answer


def _endless(request: http.server.BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    piece = b'mesh_worker_slots{model="m"} 1\n' * 4096
    for _ in range(10 * MAX_PAGE_BYTES // len(piece)):
        request.wfile.write(piece)


def _document(*arguments: str) -> Any:
    ended = mesh("top", "--once", "--json", *QUICK, *arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)


def test_the_rate_is_that_of_the_interval() -> None:
    with _serving(_with_pages(_gateway_page(1000), _gateway_page(1030))) as address:
        told = _document("--metrics", f"http://{address}/metrics")
    (row,) = told["rows"]
    assert (row["model"], row["ready"], row["replicas"]) == ("chat", 1, 1)
    assert 10 < row["requests_per_s"] <= 110
    assert [one["problem"] for one in told["processes"]] == [""]


def test_a_restarted_process_is_told_and_has_no_negative_rate() -> None:
    with _serving(_with_pages(_gateway_page(1000), _gateway_page(3, started_s=2000))) as address:
        told = _document("--metrics", address)
    assert 1 < told["rows"][0]["requests_per_s"] <= 11
    assert told["processes"][0]["problem"] == "restarted"


def test_what_cannot_be_read_is_told_and_the_rest_is_shown() -> None:
    answers = {
        "HTTP status 500": _with_pages(b"mesh_gateway_in_flight 1\n", status=500),
        "no metrics": _with_pages(b"<html>\x1b[2Jhello</html>"),
        "REST bridge": _with_pages(b"mesh_bridge_in_flight 0\n"),
        "not in Prometheus' text format": _with_pages(b"mesh_gateway_in_flight{\xff\n"),
        "larger than 8 MiB": _endless,
        "": _with_pages(_gateway_page(1)),
    }
    with ExitStack() as stack:
        wanted = {stack.enter_context(_serving(answer)): problem for problem, answer in answers.items()}
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        wanted[f"127.0.0.1:{silent.getsockname()[1]}"] = "no answer within"
        with socket.create_server(("127.0.0.1", 0)) as closed:
            wanted[f"127.0.0.1:{closed.getsockname()[1]}"] = "no connection"
        told = _document(*(word for address in wanted for word in ("--metrics", address)))
    assert [row["model"] for row in told["rows"]] == ["chat"]
    problems = {one["name"]: one["problem"] for one in told["processes"]}
    assert problems.keys() == wanted.keys()
    assert {address: wanted[address] in problem for address, problem in problems.items()} == dict.fromkeys(
        wanted, True
    )
    assert [one["problem"] for one in told["processes"] if one["reachable"]] == [""]


def test_with_nothing_to_read_there_is_a_table_that_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    ended = mesh("top", "--once", *QUICK, "--metrics", address)
    assert ended.returncode == 0
    assert f"{address}: no connection" in ended.stdout


@contextmanager
def _running(*arguments: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """`mesh top` until the end of a block, at most."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "mesh_cli", "top", *QUICK, *arguments]
    with subprocess.Popen(command, cwd=ROOT, env=environment, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def test_in_a_pipe_tables_follow_each_other_until_the_reader_goes() -> None:
    with (
        _serving(_with_pages(_gateway_page(1))) as address,
        _running("--metrics", address, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline() for _ in range(5)]
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait(LIMIT_S) == 0
    assert errors == b""
    assert [line.split()[:1] for line in lines] == [[b"MODEL"], [b"chat"], [], [b"MODEL"], [b"chat"]]
    assert not any(b"\x1b" in line for line in lines)


def _shown(terminal: int, wanted: bytes) -> bytes:
    """What comes on a terminal until a text is there."""
    shown = b""
    while wanted not in shown:
        is_more, _, _ = select.select([terminal], [], [], LIMIT_S)
        assert is_more, shown
        shown += os.read(terminal, 65536)
    return shown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_live_table_and_gives_the_terminal_back(number: signal.Signals) -> None:
    terminal, side = pty.openpty()
    before = termios.tcgetattr(side)
    with (
        _serving(_with_pages(_gateway_page(1))) as address,
        _running("--metrics", address, stdin=side, stdout=side, stderr=side) as process,
    ):
        shown = _shown(terminal, b"Ctrl-C ends it")
        process.send_signal(number)
        assert process.wait(LIMIT_S) == 0
        shown += _shown(terminal, SHOW_CURSOR)
        assert termios.tcgetattr(side) == before
    os.close(side)
    os.close(terminal)
    assert shown.count(HIDE_CURSOR) == shown.count(SHOW_CURSOR) == 1
    assert shown.rstrip().endswith(SHOW_CURSOR)
    assert b"Traceback" not in shown
