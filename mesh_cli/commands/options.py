"""Options that several commands have, written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_STATE_DIR = Path(".mesh")

StateDir = Annotated[
    Path,
    typer.Option(
        "--state-dir", envvar="MESH_STATE_DIR", help="Folder of the mesh's state and logs.", show_default=True
    ),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="mesh.yaml; default: ./mesh.yaml, else the embedded models."),
]
Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        envvar="MESH_TARGET",
        help="host:port of a gateway or worker; default: the mesh of --state-dir, else 127.0.0.1:50051.",
    ),
]


def _header_text(value: str | None) -> str | None:
    """A value that can be sent as metadata: what gRPC refuses is refused here, with the option's name."""
    if value is not None and not (value.isascii() and value.isprintable()):
        raise typer.BadParameter("must be printable ASCII; a line break at its end is a common cause")
    return value


ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key", envvar="MESH_API_KEY", help="API key, mesh_<id>_<secret>.", callback=_header_text
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
TimeoutS = Annotated[float, typer.Option("--timeout", min=0.001, max=86_400, help="Seconds for one call.")]
Context = Annotated[
    str | None,
    typer.Option("--context", help="Cluster of kubectl's configuration; default: its current one."),
]
PrintOnly = Annotated[
    bool,
    typer.Option("--print", "--dry-run", help="Print what would be applied; no cluster is asked or changed."),
]
