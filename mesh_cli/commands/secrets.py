"""`mesh secrets`: the credentials that parts of a cluster have between themselves."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from mesh_cli.commands.options import AsJson, Context, PrintOnly
from mesh_cli.errors import UsageError
from mesh_cli.kubectl import Cluster, Manifest
from mesh_cli.secret_manifests import (
    CREDENTIALS,
    GRAFANA,
    SecretName,
    as_yaml,
    missing_credentials,
    text_of,
)


def make_app() -> typer.Typer:
    """The commands below `mesh secrets`."""
    app = typer.Typer(help="Make the passwords of Redis and Grafana in a cluster.", no_args_is_help=True)
    app.callback()(_group)
    app.command("create")(create)
    return app


def create(
    kubernetes: Annotated[
        bool, typer.Option("--kubernetes", help="Make them as Secrets of a cluster, by kubectl.")
    ] = False,
    context: Context = None,
    print_only: PrintOnly = False,
    as_json: AsJson = False,
) -> None:
    """Make the Secrets of Redis and Grafana that are not there yet; those that are stay as they are."""
    if not kubernetes:
        raise UsageError("--kubernetes says where to make them, and is the only place there is")
    if print_only:
        made = missing_credentials({})
        print(
            json.dumps([*made.values()]) if as_json else as_yaml(made.values()), end="\n" if as_json else ""
        )
        return
    cluster = Cluster(context)
    found = {name: cluster.secret(name.namespace, name.name) for name in CREDENTIALS}
    present = {name: manifest for name, manifest in found.items() if manifest is not None}
    made = missing_credentials(present)
    for manifest in made.values():
        cluster.create(manifest)
    if as_json:
        print(json.dumps(_facts(present, made)))
        return
    for name in CREDENTIALS:
        print(f"{name} " + ("was made" if name in made else "is there already, and stays as it is"))
    if GRAFANA in made:
        login = _login(made[GRAFANA])
        print(f"Grafana's login is {login['user']} with the password {login['password']}")


def _group() -> None:
    """Keep `create` a command of its own: typer makes the only command of a group the group."""


def _facts(present: dict[SecretName, Manifest], made: dict[SecretName, Manifest]) -> dict[str, Any]:
    facts: dict[str, Any] = {"made": [str(name) for name in made], "kept": [str(name) for name in present]}
    return {**facts, "grafana": _login(made[GRAFANA])} if GRAFANA in made else facts


def _login(manifest: Manifest) -> dict[str, str | None]:
    return {"user": text_of(manifest, "admin-user"), "password": text_of(manifest, "admin-password")}
