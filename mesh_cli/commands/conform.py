"""`mesh conform`: whether a server, this mesh or another, keeps what its protocols' clients rely on."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mesh_cli.commands.gateway_options import TlsCa, TlsCert, TlsKey, TlsName
from mesh_cli.commands.options import DEFAULT_STATE_DIR, ApiKey, AsJson, StateDir, TimeoutS
from mesh_cli.errors import FailedError, UsageError


class SuiteName(StrEnum):
    """The suites, by protocol."""

    NATIVE = "native"
    OIP_GRPC = "oip-grpc"
    OIP_REST = "oip-rest"
    OPENAI = "openai"


Endpoints = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[ENDPOINT]...",
        help="host:port of a gRPC server, http(s)://host:port of a REST one, or one of each; "
        "default: the mesh of --state-dir.",
        show_default=False,
    ),
]
Suites = Annotated[
    list[SuiteName] | None,
    typer.Option("--suite", "-s", help="Suite to run; may be repeated. Default: all that are spoken there."),
]
Chosen = Annotated[str, typer.Option("--check", help="Only checks whose name fits, e.g. 'stream-*'.")]
GenerateModel = Annotated[
    str, typer.Option("--generate", metavar="MODEL", help="Model that writes text; default: one listed.")
]
EmbedModel = Annotated[
    str,
    typer.Option("--embed", metavar="MODEL", help="Model that makes vectors of texts; default: one listed."),
]
TensorsModel = Annotated[
    str, typer.Option("--tensors", metavar="MODEL", help="Model that takes numbers; default: one listed.")
]
Junit = Annotated[
    Path | None,
    typer.Option("--junit", metavar="FILE", help="Write the report as JUnit XML, too.", dir_okay=False),
]
Listed = Annotated[bool, typer.Option("--list", help="Print the checks and their claims, and run none.")]


def conform(
    endpoints: Endpoints = None,
    suite: Suites = None,
    check: Chosen = "*",
    generate: GenerateModel = "",
    embed: EmbedModel = "",
    tensors: TensorsModel = "",
    api_key: ApiKey = None,
    tls_ca: TlsCa = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    tls_name: TlsName = "",
    state_dir: StateDir = DEFAULT_STATE_DIR,
    timeout_s: TimeoutS = 30.0,
    junit: Junit = None,
    as_json: AsJson = False,
    list_checks: Listed = False,
) -> None:
    """Examine a server by the protocols that it speaks, and print what holds, what not, what was skipped.

    It may be this mesh or another server. Requests are small; nothing is loaded or unloaded.

      mesh conform

      mesh conform localhost:8001 http://localhost:8000 --tensors simple

      mesh conform http://localhost:8000 --suite openai --junit report.xml

    Exit code 0 if nothing breaks and something holds, 1 otherwise, 3 if nobody answers.
    """
    from conformance.subject import ModelNames
    from inference_mesh.client_tls import client_tls
    from mesh_cli.conformity import Order, catalogue, chosen_suites, run_order, subject_of

    if list_checks:
        print("\n".join(catalogue(suite, check)))
        return
    try:
        tls = client_tls(tls_ca, tls_cert, tls_key, tls_name, called="--tls-{}")
    except ValueError as error:
        raise UsageError(str(error)) from None
    names = ModelNames(generate, embed, tensors)
    subject = subject_of(endpoints or [], state_dir, api_key, tls, names, timeout_s)
    order = Order(subject, chosen_suites(suite, subject), bool(suite), check)
    if not run_order(order, junit, as_json=as_json):
        raise FailedError("the server does not keep to its protocols")
