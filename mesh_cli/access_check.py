"""Whether the files of keys and tenants let anybody in, before a gateway is started with them.

Owns what must hold between the two files, and the key files that issuers name. The schemas are
`inference_mesh.config`'s.
"""

from __future__ import annotations

import json
from pathlib import Path

from inference_mesh.config.errors import ConfigError, Problem
from inference_mesh.config.keys_file import ApiKey, parse_keys
from inference_mesh.config.tenants_file import TenantsFile, parse_tenants
from inference_mesh.config.yaml_document import YamlDocument
from mesh_cli.mesh_file import read_text
from mesh_cli.plan import Access


def check_access(access: Access) -> None:
    """Raises ConfigError if a file cannot be used, or the gateway would let nobody in."""
    keys = _keys(access.keys)
    if access.tenants is None:
        if access.keys is not None and not keys:
            raise ConfigError(
                str(access.keys), (Problem("keys", "has no key; `mesh keys create` makes one"),)
            )
        return
    source, text = str(access.tenants), read_text(access.tenants)
    tenants = parse_tenants(text, source=source)
    check_issuers(text, source=source, folder=access.tenants.resolve().parent)
    if not tenants.issuers:
        _check_keys_of(keys, tenants, access)


def check_issuers(text: str, *, source: str, folder: Path) -> None:
    """Raises ConfigError naming every issuer whose file of keys is not there or not a JWKS."""
    document = YamlDocument(text, source)
    issuers = parse_tenants(text, source=source).issuers
    problems = tuple(
        document.problem(("issuers", index, "jwks_file"), problem)
        for index, issuer in enumerate(issuers)
        if issuer.jwks_file is not None and (problem := _jwks_problem(folder / issuer.jwks_file))
    )
    if problems:
        raise ConfigError(source, problems)


def _keys(path: Path | None) -> tuple[ApiKey, ...]:
    return () if path is None else tuple(parse_keys(read_text(path), source=str(path)))


def _check_keys_of(keys: tuple[ApiKey, ...], tenants: TenantsFile, access: Access) -> None:
    """Raises ConfigError if there is no key, or none whose tenant the other file has."""
    if not keys:
        message = "lets nobody in: it has no issuer; give keys with --keys"
        raise ConfigError(str(access.tenants), (Problem("", message),))
    known = {one.name for one in tenants.tenants}
    if not any(key.tenant in known for key in keys):
        problems = (
            Problem(f"keys[{index}].tenant", f"'{key.tenant}' is not a tenant of {access.tenants}")
            for index, key in enumerate(keys)
        )
        raise ConfigError(str(access.keys), tuple(problems))


def _jwks_problem(path: Path) -> str | None:
    """Why the file is no JSON Web Key Set, seen from outside; None if it may be one."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        return f"'{path}' cannot be read: {error.strerror}"
    except (ValueError, RecursionError):
        return f"'{path.name}' is not JSON"
    keys = document.get("keys") if isinstance(document, dict) else None
    return None if isinstance(keys, list) and keys else f"'{path.name}' has no list 'keys' with a key in it"
