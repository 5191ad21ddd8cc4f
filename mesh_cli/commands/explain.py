"""`mesh explain`: what the gateway would make of a call, and why."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mesh_cli.commands.gateway_options import GatewayOptions, asks_gateway
from mesh_cli.commands.infer import json_text_of
from mesh_cli.commands.options import AsJson
from mesh_cli.errors import UsageError
from mesh_cli.mesh_table import output_console


@asks_gateway
def explain(
    model: Annotated[str, typer.Argument(help="Name or alias of the model.")],
    text: Annotated[
        str | None, typer.Argument(help="Text that would be sent; default: a request that costs nothing.")
    ] = None,
    payload: Annotated[
        str | None, typer.Option(metavar="PAYLOAD|@FILE", help="Payload as JSON instead of a text.")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer in tokens.")] = None,
    version: Annotated[str, typer.Option(help="Version; default: the one that the policy chooses.")] = "",
    sticky: Annotated[
        str, typer.Option(help="Value of the header that the model's canary is sticky by.")
    ] = "",
    as_json: AsJson = False,
    *,
    gateway: GatewayOptions,
) -> None:
    """Show where a call would go, its limits and its wait; nothing is sent or counted."""
    from mesh_cli.explanation import Inquiry, explanation_json, explanation_view, fetch_explanation
    from mesh_cli.inference import Question  # grpc and numpy: only when a call is made
    from mesh_cli.payloads import Sampling
    from mesh_cli.target import choose_access, run_call

    if text is not None and payload is not None:
        raise UsageError("give either a text or --payload, not both")
    if text is None and payload is None and max_tokens is not None:
        raise UsageError("--max-tokens: only with a text or --payload")
    question = Question(
        model=model,
        text=text,
        json_text=None if payload is None else json_text_of(payload, "--payload"),
        is_raw=False,
        system=None,
        sampling=Sampling(max_tokens),
    )
    is_free = text is None and payload is None
    inquiry = Inquiry(model, version, sticky, None if is_free else question)
    access = choose_access(gateway)
    answer = run_call(fetch_explanation(inquiry, access), access)
    if as_json:
        print(json.dumps(explanation_json(answer), indent=2))
        return
    output_console().print(explanation_view(answer))
