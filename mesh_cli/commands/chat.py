"""`mesh chat`: a conversation with a model."""

from __future__ import annotations

from typing import Annotated

import typer

from mesh_cli.commands.gateway_options import GatewayOptions, asks_gateway
from mesh_cli.commands.options import TimeoutS


@asks_gateway
def chat(
    model: Annotated[str, typer.Argument(help="Name or alias of a model that generates.")],
    system: Annotated[str | None, typer.Option(help="System message at the start.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer in tokens.")] = None,
    temperature: Annotated[
        float | None, typer.Option(min=0, max=2, help="0 = always the most probable.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**32 - 1, help="Makes the choice reproducible.")
    ] = None,
    timeout_s: TimeoutS = 300.0,
    *,
    gateway: GatewayOptions,
) -> None:
    """Talk with a model. Ctrl-C stops the answer, at the prompt it leaves; a pipe is read line by line."""
    from mesh_cli.conversation import Conversation, talk  # grpc and numpy: only when a call is made
    from mesh_cli.payloads import Sampling
    from mesh_cli.target import choose_access

    sampling = Sampling(max_tokens=max_tokens, temperature=temperature, seed=seed)
    talk(Conversation(model, sampling, system), choose_access(gateway), timeout_s)
