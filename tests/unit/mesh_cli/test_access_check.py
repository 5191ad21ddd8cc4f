"""Files of keys and tenants that would let nobody in are told before a gateway starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from inference_mesh.config.errors import ConfigError
from inference_mesh.config.keys_file import new_key
from mesh_cli.access_check import check_access
from mesh_cli.plan import Access
from tests.support.meshes import mesh

ISSUER = {"issuer": "https://id.example", "audience": "mesh"}


@pytest.fixture
def tenants(tmp_path: Path) -> Path:
    path = tmp_path / "tenants.yaml"
    path.write_text("tenants:\n  - name: acme\n")
    return path


def keys_of(folder: Path, *tenants: str) -> Path:
    path = folder / "keys.yaml"
    keys = [new_key(tenant=tenant, scopes=("infer",))[1] for tenant in tenants]
    path.write_text(
        yaml.safe_dump({"keys": [key.model_dump(mode="json", exclude_defaults=True) for key in keys]})
    )
    return path


def problem_of(access: Access) -> str:
    with pytest.raises(ConfigError) as caught:
        check_access(access)
    return str(caught.value.problems[0])


def test_no_file_and_good_files_are_fine(tmp_path: Path, tenants: Path) -> None:
    check_access(Access())
    check_access(Access(keys=keys_of(tmp_path, "acme")))
    check_access(Access(keys=keys_of(tmp_path, "acme", "gone"), tenants=tenants))


def test_a_file_without_keys_lets_nobody_in(tmp_path: Path, tenants: Path) -> None:
    assert "has no key" in problem_of(Access(keys=keys_of(tmp_path)))
    assert "lets nobody in" in problem_of(Access(tenants=tenants))


def test_keys_of_unknown_tenants_alone_let_nobody_in(tmp_path: Path, tenants: Path) -> None:
    assert problem_of(Access(keys_of(tmp_path, "gone"), tenants)).startswith("keys[0].tenant: 'gone'")


@pytest.mark.parametrize("content", [None, "no json", "[]", '{"keys": []}', '{"keys": 1}'])
def test_an_issuer_whose_keys_cannot_be_read_is_told_with_its_line(
    tmp_path: Path, tenants: Path, content: str | None
) -> None:
    tenants.write_text(json.dumps({"issuers": [ISSUER | {"jwks_file": "jwks.json"}]}))
    if content is not None:
        (tmp_path / "jwks.json").write_text(content)
    assert problem_of(Access(tenants=tenants)).startswith("line 1: issuers[0].jwks_file:")


def test_an_issuer_is_enough_to_let_somebody_in(tmp_path: Path, tenants: Path) -> None:
    (tmp_path / "jwks.json").write_text('{"keys": [{"kty": "RSA"}]}')
    tenants.write_text(json.dumps({"issuers": [ISSUER | {"jwks_file": "jwks.json"}]}))
    check_access(Access(tenants=tenants))


def test_mesh_up_refuses_them_before_it_starts_anything(tmp_path: Path, tenants: Path) -> None:
    ended = mesh("up", "--tenants", str(tenants), "--state-dir", str(tmp_path / "state"))
    assert ended.returncode == 2
    assert "lets nobody in" in ended.stderr
    assert not (tmp_path / "state").exists()
    wrong = mesh("up", "--redis-url", "http://127.0.0.1", "--state-dir", str(tmp_path / "state"))
    assert (wrong.returncode, "--redis-url" in wrong.stderr) == (2, True)
