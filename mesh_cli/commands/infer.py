"""`mesh infer`: one request to one model."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mesh_cli.commands.gateway_options import GatewayOptions, asks_gateway
from mesh_cli.commands.options import TimeoutS
from mesh_cli.errors import UsageError


class Form(StrEnum):
    """How the answer is printed."""

    TEXT = "text"
    JSON = "json"


@asks_gateway
def infer(
    model: Annotated[str, typer.Argument(help="Name or alias of the model.")],
    text: Annotated[
        str | None, typer.Argument(help="Text for the model; '-' or nothing reads it from a pipe.")
    ] = None,
    json_text: Annotated[
        str | None, typer.Option("--json", metavar="PAYLOAD|@FILE", help="Payload as JSON instead of a text.")
    ] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print the answer as it is made.")] = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the text as it stands, without a chat template.")
    ] = False,
    system: Annotated[str | None, typer.Option(help="System message before the text.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer in tokens.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="0 = always the most probable.")
    ] = None,
    top_k: Annotated[
        int | None, typer.Option(min=0, help="Only the k most probable tokens; 0 = all.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(min=0, max=1, help="Only the most probable up to this sum.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="Makes the choice reproducible.")
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="Text that ends the answer; may be repeated.")
    ] = None,
    version: Annotated[str, typer.Option(help="Version; default: the registry's choice.")] = "",
    output: Annotated[
        Form, typer.Option("--output", "-o", help="text for people, json with everything.")
    ] = Form.TEXT,
    timeout_s: TimeoutS = 60.0,
    *,
    gateway: GatewayOptions,
) -> None:
    """Ask a model once: text is generated, embedded or classified, by what the model does."""
    from mesh_cli.inference import Question, ask  # grpc and numpy: only when a call is made
    from mesh_cli.payloads import Sampling
    from mesh_cli.target import choose_access, run_call

    if text is not None and json_text is not None:
        raise UsageError("give either a text or --json, not both")
    question = Question(
        model=model,
        text=None if json_text is not None else _text(text),
        json_text=None if json_text is None else json_text_of(json_text, "--json"),
        is_raw=raw,
        system=system,
        sampling=Sampling(max_tokens, temperature, top_k, top_p, seed, tuple(stop or ())),
        version=version,
    )
    access = choose_access(gateway)
    call = ask(question, access, timeout_s, is_stream=stream, is_json=output is Form.JSON)
    run_call(call, access)


def _text(text: str | None) -> str:
    if text is not None and text != "-":
        return text
    if text is None and sys.stdin.isatty():
        raise UsageError("give a text, '-' to read it from standard input, or --json")
    return _standard_input().strip()


def _standard_input() -> str:
    """What a pipe holds, as UTF-8 whatever the locale. Raises UsageError."""
    try:
        return sys.stdin.buffer.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not UTF-8 text: byte {error.start} is wrong") from None


def json_text_of(value: str, option: str) -> str:
    """The JSON text that an option gives: itself, @FILE, or @- for standard input. Raises UsageError."""
    if not value.startswith("@"):
        return value
    if value == "@-":
        return _standard_input()
    try:
        return Path(value[1:]).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{option}: cannot read '{value[1:]}': {error}") from None
