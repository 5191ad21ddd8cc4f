"""`mesh demo`: a whole mesh started, asked in every way, and stopped again."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    started_at: Annotated[
        float | None,
        typer.Option(envvar="MESH_DEMO_STARTED_AT", help="When the caller began, in seconds since 1970."),
    ] = None,
) -> None:
    """Start the embedded models, ask each by REST and gRPC, and stop. Exit code 1 if an answer is wrong."""
    from mesh_cli.demo import run_demo  # grpc and numpy: only when called

    run_demo(started_at)
