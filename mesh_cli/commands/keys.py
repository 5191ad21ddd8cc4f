"""`mesh keys`: API keys, of which only hashes are stored."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
import yaml

from inference_mesh.config.keys_file import ApiKey, new_key, parse_keys
from mesh_cli.commands.options import AsJson
from mesh_cli.errors import UsageError
from mesh_cli.mesh_file import read_text
from mesh_cli.state import write_atomically

SCOPES = ("infer", "admin")

KeysFile = Annotated[Path, typer.Option("--file", "-f", help="The keys file.")]


def make_app() -> typer.Typer:
    """The commands below `mesh keys`."""
    app = typer.Typer(help="Make and list API keys.", no_args_is_help=True)
    app.command("create")(create)
    app.command("list")(list_keys)
    return app


def create(
    file: KeysFile = Path("keys.yaml"),
    tenant: Annotated[str, typer.Option(help="Whom the key belongs to.")] = "default",
    scope: Annotated[list[str] | None, typer.Option(help="infer or admin; may be repeated.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, show it once, and add its hash to the keys file."""
    scopes = tuple(scope or ("infer",))
    unknown = [name for name in scopes if name not in SCOPES]
    if unknown:
        raise UsageError(f"--scope is '{unknown[0]}'; allowed are {', '.join(SCOPES)}")
    if not 1 <= len(tenant) <= 64:
        raise UsageError("--tenant must have 1 to 64 characters")
    keys = _read(file) if file.exists() else ()
    plain, key = new_key(tenant=tenant, scopes=scopes)
    _write(file, (*keys, key))
    if as_json:
        print(json.dumps({"id": key.id, "key": plain, "tenant": tenant, "scopes": list(scopes)}))
        return
    print(plain)
    print(f"key {key.id} of tenant '{tenant}' was added to {file}; it is not shown again", file=sys.stderr)


def list_keys(file: KeysFile = Path("keys.yaml"), as_json: AsJson = False) -> None:
    """List the keys of a file, without secrets."""
    keys = _read(file)
    if as_json:
        print(json.dumps([key.model_dump(mode="json", exclude={"sha256"}) for key in keys], indent=2))
        return
    for key in keys:
        expires = f"  expires {key.expires.isoformat()}" if key.expires else ""
        print(f"{key.id}  {key.tenant}  {','.join(key.scopes)}{expires}")


def _read(file: Path) -> tuple[ApiKey, ...]:
    return parse_keys(read_text(file), source=str(file))


def _write(file: Path, keys: tuple[ApiKey, ...]) -> None:
    entries = [key.model_dump(mode="json", exclude_defaults=True) for key in keys]
    try:
        write_atomically(file, yaml.safe_dump({"keys": entries}, sort_keys=False))
    except OSError as error:
        raise UsageError(f"cannot write '{file}': {error.strerror}") from None
