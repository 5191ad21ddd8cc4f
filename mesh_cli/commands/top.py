"""`mesh top`: what the models do at this moment."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mesh_cli.commands.options import DEFAULT_STATE_DIR, AsJson, StateDir
from mesh_cli.mesh_table import output_console
from mesh_cli.state import StateFolder
from mesh_cli.top.choices import Grouping, SortKey

if TYPE_CHECKING:
    from mesh_cli.top.views import View

Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metrics",
        metavar="URL",
        help="Metrics of a gateway or a worker, host:port or a URL; may be given again. "
        "Default: every process of the mesh of --state-dir.",
    ),
]


def top(
    metrics: Metrics = None,
    by: Annotated[Grouping, typer.Option(help="What has a row of its own.")] = Grouping.MODEL,
    sort: Annotated[SortKey, typer.Option(help="Column; numbers from the largest down.")] = SortKey.REQUESTS,
    interval: Annotated[
        float, typer.Option(min=0.1, max=3600, help="Seconds between two readings, over which rates are.")
    ] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Print one table after one interval and end.")] = False,
    as_json: AsJson = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
) -> None:
    """Show what the models do now: calls, errors, latency, queues, tokens, load. Ctrl-C ends it.

    ERR/S are calls that ended by another code than OK and CANCELLED, RUN calls in flight.

    IN/S and TOK/S are tokens read and written, TTFT is the median time to the first token.

    KV is that of the fullest replica, SLOTS how many are at work, of all.

    On Kubernetes, forward a port to each process, and name them all:

      kubectl -n ai-gateway port-forward deploy/gateway 9090:8080

      kubectl -n ai-models port-forward deploy/llm 9091:8080

      mesh top --metrics http://127.0.0.1:9090/metrics --metrics 127.0.0.1:9091
    """
    with contextlib.suppress(KeyboardInterrupt):
        from mesh_cli.top.targets import MeshTargets, targets_of_urls  # httpx: only when called
        from mesh_cli.top.watch import TopOptions, watch

        given = targets_of_urls(metrics or ())
        find_targets = (lambda: given) if given else MeshTargets(StateFolder(state_dir))
        max_tables = 1 if once else None
        console = output_console()
        view = _view(console, is_live=console.is_terminal and not once, as_json=as_json)
        watch(TopOptions(find_targets, interval, by, sort, max_tables), view)


def _view(console: Console, *, is_live: bool, as_json: bool) -> View:
    from mesh_cli.top.views import JsonView, LiveView, PlainView

    if as_json:
        return JsonView(console)
    return LiveView(console) if is_live and not console.is_dumb_terminal else PlainView(console)
