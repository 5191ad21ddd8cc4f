"""`mesh canary`: how far the canaries are, and ending one by hand."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from mesh_cli.commands.gateway_options import GatewayOptions, asks_gateway
from mesh_cli.commands.options import AsJson
from mesh_cli.errors import FailedError
from mesh_cli.mesh_table import output_console

if TYPE_CHECKING:
    from inference_mesh.v1 import admin_pb2

ModelName = Annotated[str, typer.Argument(help="Name of the model.")]


def make_app() -> typer.Typer:
    """The commands below `mesh canary`."""
    app = typer.Typer(help="Show and end canaries; needs a key with the scope admin.", no_args_is_help=True)
    app.command("status")(status)
    app.command("promote")(promote)
    app.command("abort")(abort)
    return app


@asks_gateway
def status(
    model: Annotated[str | None, typer.Argument(help="Only this model's; default: all.")] = None,
    as_json: AsJson = False,
    *,
    gateway: GatewayOptions,
) -> None:
    """Show how far each canary is, and why."""
    from mesh_cli.canary_list import canaries_table, canary_json, fetch_canaries  # grpc: only when called
    from mesh_cli.target import choose_access, run_call

    access = choose_access(gateway)
    found = [one for one in run_call(fetch_canaries(access), access) if model in (None, one.model)]
    if model is not None and not found:
        raise FailedError(f"there is no canary of a model '{model}'")
    if as_json:
        print(json.dumps([canary_json(one) for one in found], indent=2))
    elif found:
        output_console().print(canaries_table(found))
    else:
        print("no model has a canary")


@asks_gateway
def promote(
    model: ModelName,
    as_json: AsJson = False,
    *,
    gateway: GatewayOptions,
) -> None:
    """Give a canary all traffic, until the registry says otherwise."""
    from mesh_cli.canary_list import promote_canary  # grpc: only when called
    from mesh_cli.target import choose_access, run_call

    access = choose_access(gateway)
    _show(run_call(promote_canary(access, model), access), as_json)


@asks_gateway
def abort(
    model: ModelName,
    as_json: AsJson = False,
    *,
    gateway: GatewayOptions,
) -> None:
    """Give a canary no more traffic, until the registry says otherwise."""
    from mesh_cli.canary_list import abort_canary  # grpc: only when called
    from mesh_cli.target import choose_access, run_call

    access = choose_access(gateway)
    _show(run_call(abort_canary(access, model), access), as_json)


def _show(canary: admin_pb2.Canary, as_json: bool) -> None:
    from mesh_cli.canary_list import canaries_table, canary_json

    if as_json:
        print(json.dumps(canary_json(canary), indent=2))
        return
    output_console().print(canaries_table([canary]))
