"""`mesh keys … --kubernetes` and `mesh secrets`: the real kubectl against a fake API server."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.policy.identity.api_keys import authenticate
from inference_mesh.config.keys_file import ApiKey, new_key, parse_keys
from mesh_cli.secret_manifests import GATEWAY_KEYS, GRAFANA, REDIS, REDIS_OF_GATEWAY, SecretName, with_keys
from tests.fakes.secrets_api import SecretsApi, running
from tests.support.meshes import mesh


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SecretsApi]:
    api = SecretsApi()
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    monkeypatch.setenv("KUBECACHEDIR", str(tmp_path / "cache"))
    with running(api, tmp_path / "kubeconfig"):
        yield api


def contents(api: SecretsApi, name: SecretName) -> dict[str, str]:
    data = api.secrets[name.namespace, name.name]["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def keys_of(api: SecretsApi) -> dict[str, ApiKey]:
    return {key.id: key for key in parse_keys(contents(api, GATEWAY_KEYS)["keys.yaml"])}


def made(*options: str) -> dict[str, Any]:
    ended = mesh("keys", "create", "--kubernetes", "--json", *options)
    assert ended.returncode == 0, ended.stderr
    facts: dict[str, Any] = json.loads(ended.stdout)
    return facts


def works(api: SecretsApi, plain: str) -> bool:
    return authenticate(plain, keys_of(api), time.time()) is not None


def test_the_first_key_makes_the_secret_and_only_its_hash_is_in_it(api: SecretsApi) -> None:
    ended = mesh("keys", "create", "--kubernetes", "--tenant", "acme")
    plain = ended.stdout.strip()
    assert ended.stdout == f"{plain}\n"
    assert works(api, plain)
    assert [key.tenant for key in keys_of(api).values()] == ["acme"]
    assert plain.rpartition("_")[2] not in json.dumps(contents(api, GATEWAY_KEYS)) + ended.stderr


def test_a_further_key_leaves_the_others_and_all_else_of_the_secret_alone(api: SecretsApi) -> None:
    first = made()
    kept = api.secrets[GATEWAY_KEYS.namespace, GATEWAY_KEYS.name]
    kept["metadata"]["annotations"] = {"owner": "somebody"}
    kept["data"]["other"] = "eA=="
    second = made()
    assert works(api, first["key"])
    assert works(api, second["key"])
    after = api.secrets[GATEWAY_KEYS.namespace, GATEWAY_KEYS.name]
    assert after["metadata"]["annotations"] == {"owner": "somebody"}
    assert after["data"]["other"] == "eA=="


def test_keys_of_a_cluster_are_listed_rotated_and_revoked(api: SecretsApi) -> None:
    old = made("--tenant", "acme")
    new = json.loads(mesh("keys", "rotate", old["id"], "--kubernetes", "--overlap", "0s", "--json").stdout)
    assert (works(api, old["key"]), works(api, new["key"])) == (False, True)
    listed = json.loads(mesh("keys", "list", "--kubernetes", "--json").stdout)
    assert [one["id"] for one in listed] == [old["id"], new["id"]]
    assert mesh("keys", "revoke", new["key"], "--kubernetes").returncode == 0
    assert not works(api, new["key"])


def test_a_change_by_somebody_else_at_the_same_time_is_not_overwritten(api: SecretsApi) -> None:
    first = made()
    plain, other = new_key()

    def be_faster() -> None:
        api.before_write = lambda: None
        name = (GATEWAY_KEYS.namespace, GATEWAY_KEYS.name)
        api.put(with_keys(api.secrets[name], [*keys_of(api).values(), other]))

    api.before_write = be_faster
    ended = mesh("keys", "create", "--kubernetes")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "run it again" in ended.stderr
    assert set(keys_of(api)) == {first["id"], other.id}
    assert works(api, plain)


def test_two_first_keys_at_the_same_time_do_not_overwrite_each_other(api: SecretsApi) -> None:
    plain, other = new_key()

    def be_faster() -> None:
        api.put(with_keys(None, [other]))

    api.before_write = be_faster
    assert mesh("keys", "create", "--kubernetes").returncode == 1
    assert works(api, plain)


def test_print_makes_a_manifest_without_a_cluster(api: SecretsApi) -> None:
    ended = mesh("keys", "create", "--kubernetes", "--print", "--context", "nowhere")
    manifest = yaml.safe_load(ended.stdout)
    api.put(manifest)
    shown = [word for word in ended.stderr.split() if word.startswith("mesh_")]
    assert len(shown) == 1
    assert works(api, shown[0])
    assert shown[0] not in ended.stdout
    assert api.writes == 0


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("--kubernetes", "--file", "keys.yaml"), 2),
        (("--print",), 2),
        (("--context", "fake"), 2),
        (("--kubernetes", "--tenant", "a b"), 2),
        (("--kubernetes", "--context", "nowhere"), 1),
        (("--kubernetes", "--context", "no-such-context"), 1),
    ],
)
def test_wrong_use_and_a_cluster_that_is_away_are_told(
    api: SecretsApi, tmp_path: Path, options: tuple[str, ...], code: int
) -> None:
    ended = mesh("keys", "create", *options, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr.startswith("error: ")
    assert len(ended.stderr.splitlines()) == 1
    assert (api.writes, (tmp_path / "keys.yaml").exists()) == (0, False)


def test_a_secret_that_is_wrong_is_left_as_it_is(api: SecretsApi) -> None:
    made()
    secret = api.secrets[GATEWAY_KEYS.namespace, GATEWAY_KEYS.name]
    for wrong in (base64.b64encode(b"keys: 5").decode(), base64.b64encode(b"\xff").decode()):
        secret["data"]["keys.yaml"] = wrong
        ended = mesh("keys", "create", "--kubernetes")
        assert ended.returncode in (1, 2)
        assert str(GATEWAY_KEYS) in ended.stderr
        assert secret["data"]["keys.yaml"] == wrong


def test_without_the_namespace_it_is_said_what_to_apply_first(api: SecretsApi) -> None:
    api.namespaces = ()
    ended = mesh("keys", "create", "--kubernetes")
    assert ended.returncode == 1
    assert "kustomize/base/namespaces" in ended.stderr


def test_without_kubectl_it_is_said(api: SecretsApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    ended = mesh("keys", "create", "--kubernetes")
    assert ended.returncode == 1
    assert "kubectl" in ended.stderr


def test_redis_and_its_gateways_get_the_same_password_and_grafana_a_login(api: SecretsApi) -> None:
    ended = mesh("secrets", "create", "--kubernetes", "--json")
    facts = json.loads(ended.stdout)
    redis = contents(api, REDIS)
    assert redis["auth.conf"] == f"requirepass {redis['password']}\n"
    assert contents(api, REDIS_OF_GATEWAY) == {"password": redis["password"]}
    assert len(redis["password"]) == 64
    assert redis["password"].isalnum()
    login = contents(api, GRAFANA)
    assert facts["grafana"] == {"user": login["admin-user"], "password": login["admin-password"]}
    assert redis["password"] not in ended.stdout


def test_credentials_that_are_there_stay(api: SecretsApi) -> None:
    assert mesh("secrets", "create", "--kubernetes").returncode == 0
    before = {name: contents(api, name) for name in (REDIS, REDIS_OF_GATEWAY, GRAFANA)}
    del api.secrets[REDIS_OF_GATEWAY.namespace, REDIS_OF_GATEWAY.name]
    again = mesh("secrets", "create", "--kubernetes", "--json")
    assert json.loads(again.stdout) == {"made": [str(REDIS_OF_GATEWAY)], "kept": [str(REDIS), str(GRAFANA)]}
    assert {name: contents(api, name) for name in before} == before


def test_two_passwords_for_one_redis_are_told(api: SecretsApi) -> None:
    assert mesh("secrets", "create", "--kubernetes").returncode == 0
    api.secrets[REDIS.namespace, REDIS.name]["data"]["password"] = "eA=="
    del api.secrets[GRAFANA.namespace, GRAFANA.name]
    assert mesh("secrets", "create", "--kubernetes").returncode == 1
    assert (GRAFANA.namespace, GRAFANA.name) not in api.secrets


def test_printed_credentials_are_what_would_be_made_and_never_twice_the_same(api: SecretsApi) -> None:
    first, second = (mesh("secrets", "create", "--kubernetes", "--print").stdout for _ in range(2))
    for manifest in yaml.safe_load_all(first):
        api.put(manifest)
    assert contents(api, REDIS)["password"] == contents(api, REDIS_OF_GATEWAY)["password"]
    assert first != second
    assert json.loads(mesh("secrets", "create", "--kubernetes", "--json").stdout)["made"] == []


def test_the_place_of_secrets_must_be_said(api: SecretsApi) -> None:
    assert mesh("secrets", "create").returncode == 2
    assert api.secrets == {}
