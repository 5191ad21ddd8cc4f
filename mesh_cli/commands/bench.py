"""`mesh bench`: load on a model, and what came of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from mesh_cli.commands.gateway_options import GatewayOptions, asks_gateway
from mesh_cli.commands.infer import json_text_of
from mesh_cli.commands.options import AsJson, TimeoutS
from mesh_cli.errors import FailedError, UsageError
from mesh_cli.load.choices import Dialect, Kind

if TYPE_CHECKING:
    from mesh_cli.load.run import LoadOrder

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_REQUESTS = 200

Model = Annotated[str, typer.Argument(help="Name or alias of the model.")]
Spoken = Annotated[Dialect, typer.Option("--dialect", "-d", help="What is spoken.")]
Concurrency = Annotated[int, typer.Option("--concurrency", "-c", min=1, max=4096, help="Calls at a time.")]
Rate = Annotated[
    float | None,
    typer.Option(
        "--rate",
        "-r",
        min=0.01,
        max=100_000,
        help="Calls a second instead, at random times, whether or not earlier ones were answered.",
    ),
]
Requests = Annotated[
    int | None, typer.Option("--requests", "-n", min=1, help="Calls in all.", show_default="200")
]
Duration = Annotated[
    float | None, typer.Option(min=0.1, max=86_400, help="Seconds, instead of a number of calls.")
]
Stream = Annotated[bool, typer.Option("--stream", help="Answers piece by piece, with the times of tokens.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")]
Words = Annotated[int, typer.Option(min=1, max=100_000, help="Words of each text that is sent.")]
Same = Annotated[
    bool, typer.Option("--same", help="Send the same text each time, so that prefix caches may help.")
]
Given = Annotated[
    str | None, typer.Option("--json-payload", metavar="JSON|@FILE", help="What each call sends.")
]
Url = Annotated[
    str | None,
    typer.Option(
        envvar="MESH_URL",
        help=f"Server of the dialects over REST; default: the bridge of --state-dir, else {DEFAULT_URL}.",
    ),
]
Task = Annotated[
    Kind | None, typer.Option(help="What the model does, for a server that cannot be asked by gRPC.")
]
Seed = Annotated[int, typer.Option(min=0, help="Of the texts and of the times of a rate.")]


@asks_gateway
def bench(
    model: Model,
    dialect: Spoken = Dialect.NATIVE,
    concurrency: Concurrency = 8,
    rate: Rate = None,
    requests: Requests = None,
    duration: Duration = None,
    stream: Stream = False,
    max_tokens: MaxTokens = 64,
    words: Words = 16,
    same: Same = False,
    json_payload: Given = None,
    url: Url = None,
    task: Task = None,
    seed: Seed = 0,
    as_json: AsJson = False,
    timeout_s: TimeoutS = 60.0,
    *,
    gateway: GatewayOptions,
) -> None:
    """Load a model and print throughput, latencies and failures. Ctrl-C ends it and prints what there is.

    Texts differ from their first word on, so that no call finds another's prefix in a cache.

    At a rate, latency counts from when a call was due: a server that falls behind shows it.

      mesh bench tiny-chat --stream -c 16

      mesh bench minilm -d openai --rate 50 --duration 20

    Exit code 1 if no call was answered.
    """
    from mesh_cli.load.generator import LoadShape
    from mesh_cli.load.questions import Texts
    from mesh_cli.load.run import LoadOrder, task_of

    order = LoadOrder(
        model=model,
        dialect=dialect,
        shape=LoadShape(
            concurrency, rate, requests or (None if duration else DEFAULT_REQUESTS), duration, seed
        ),
        texts=Texts(words, same, seed),
        max_tokens=max_tokens,
        is_stream=stream,
        timeout_s=timeout_s,
        url=url or _own_url(gateway),
        task=None if task is None else task_of(task),
        payload=None if json_payload is None else _payload(json_payload),
    )
    at = f"{rate:g} a second" if rate else f"{concurrency} at a time"
    _run(order, gateway, f"{model} by {dialect}, {at}", as_json=as_json)


def _run(order: LoadOrder, gateway: GatewayOptions, title: str, *, as_json: bool) -> None:
    from rich.console import Console

    from mesh_cli.load.report import document_of, table_of
    from mesh_cli.load.run import run_load
    from mesh_cli.mesh_table import output_console
    from mesh_cli.target import choose_access, run_call

    access = choose_access(gateway)
    figures = run_call(run_load(order, access, Console(stderr=True)), access)
    if as_json:
        print(json.dumps(document_of(figures)))
    else:
        output_console().print(table_of(figures, title))
    if not figures.answered:
        raise FailedError("no call was answered")


def _own_url(gateway: GatewayOptions) -> str:
    """The bridge of the mesh that runs here, else where one listens by default."""
    from mesh_cli.state import StateFolder

    state = StateFolder(gateway.state_dir).read()
    return state.url if state is not None and state.is_running else DEFAULT_URL


def _payload(text: str) -> dict[str, object]:
    try:
        found = json.loads(json_text_of(text, "--json-payload"))
    except json.JSONDecodeError as error:
        raise UsageError(f"--json-payload is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise UsageError("--json-payload must be an object, as in `mesh infer --json`")
    return found
