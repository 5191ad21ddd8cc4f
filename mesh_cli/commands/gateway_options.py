"""The options of every command that talks to a gateway: where it is, who asks, and how it is trusted."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from mesh_cli.commands.options import DEFAULT_STATE_DIR, ApiKey, StateDir, Target

TlsCa = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca",
        envvar="MESH_TLS_CA",
        help="Certificate authority (PEM) of the target; without it nothing is encrypted.",
    ),
]
TlsCert = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert", envvar="MESH_TLS_CERT", help="Own certificate (PEM), for a gateway that asks for one."
    ),
]
TlsKey = Annotated[
    Path | None,
    typer.Option("--tls-key", envvar="MESH_TLS_KEY", help="Private key (PEM) of --tls-cert."),
]
TlsName = Annotated[
    str,
    typer.Option(
        "--tls-name",
        envvar="MESH_TLS_NAME",
        help="Name that the target's certificate is checked for; default: its host.",
    ),
]


@dataclasses.dataclass(frozen=True)
class GatewayOptions:
    """The options as they were given."""

    target: Target = None
    api_key: ApiKey = None
    tls_ca: TlsCa = None
    tls_cert: TlsCert = None
    tls_key: TlsKey = None
    tls_name: TlsName = ""
    state_dir: StateDir = DEFAULT_STATE_DIR


def asks_gateway(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose parameter `gateway` has options of its own on the command line."""

    @functools.wraps(command)
    def with_options(**given: Any) -> None:
        own = {field.name: given.pop(field.name) for field in dataclasses.fields(GatewayOptions)}
        command(**given, gateway=GatewayOptions(**own))

    signature = inspect.signature(command, eval_str=True)
    kept = [one for one in signature.parameters.values() if one.name != "gateway"]
    added = inspect.signature(GatewayOptions, eval_str=True).parameters.values()
    keyword_only = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in (*kept, *added)]
    with_options.__signature__ = signature.replace(parameters=keyword_only)  # type: ignore[attr-defined]
    return with_options
