"""mesh.yaml: versions, traffic, and what becomes of them in the gateway's registry."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from inference_mesh.config.errors import ConfigError
from inference_mesh.config.models_file import ModelEntry, parse_models
from mesh_cli.mesh_file import parse_mesh, resolve
from mesh_cli.mesh_schema import Traffic
from mesh_cli.plan import Access, Plan, plan_mesh, registry_text
from mesh_cli.state import StateFolder

ADDRESSES = {"name", "service", "endpoints", "path", "port", "task", "aliases", "version", "versions"}
TWO_VERSIONS = """\
version: 1
models:
  - name: chat
    slots: 2
    versions:
      - {version: "1", path: one.gguf, weight: 1}
      - {version: "2", path: two.gguf, replicas: 2, slots: 3}
    canary: {version: "2", steps: [{weight: 10, for_s: 5}]}
    limits: {requests_per_second: 5}
    fallback: [spare]
    resume: false
    tenants: []
    queue: {size: 0}
  - name: spare
    path: spare.gguf
    aliases: [other]
    shadow: {model: chat, version: "2"}
"""


def planned(text: str, folder: Path, access: Access = Access()) -> Plan:  # noqa: B008 - frozen
    return plan_mesh(
        parse_mesh(text).models,
        folder,
        StateFolder(folder),
        grpc_port=50051,
        http_port=8080,
        grace_s=1,
        access=access,
    )


def problems_of(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_mesh(text)
    return [str(problem) for problem in caught.value.problems]


def test_mesh_yaml_knows_every_key_by_which_the_registry_steers_traffic() -> None:
    assert set(Traffic.model_fields) == set(ModelEntry.model_fields) - ADDRESSES


def test_each_version_is_a_worker_of_its_own_file_with_its_own_values(tmp_path: Path) -> None:
    plan = planned(TWO_VERSIONS, tmp_path)
    workers = {one.name: one for one in plan.services if one.kind == "worker"}
    assert set(workers) == {"chat@1-0", "chat@2-0", "chat@2-1", "spare-0"}
    assert {"--version", "1", "--slots", "2", str(tmp_path / "one.gguf")} <= set(
        workers["chat@1-0"].arguments
    )
    assert {"--version", "2", "--slots", "3", str(tmp_path / "two.gguf")} <= set(
        workers["chat@2-1"].arguments
    )


def test_the_digest_that_a_file_must_have_goes_to_its_worker(tmp_path: Path) -> None:
    first, second = "a" * 64, "b" * 64
    text = f"""
    - {{name: one, path: one.gguf, sha256: {first}}}
    - name: two
      versions: [{{version: "1", path: x.gguf, weight: 1, sha256: {second}}}, {{version: "2", path: y.gguf}}]
    """
    found = {one.name: one.arguments for one in planned(text, tmp_path).services if one.kind == "worker"}
    assert ("--sha256", first) in pairwise(found["one-0"])
    assert ("--sha256", second) in pairwise(found["two@1-0"])
    assert "--sha256" not in found["two@2-0"]


def test_the_registry_has_every_version_with_its_workers_and_the_traffic_as_it_was_written(
    tmp_path: Path,
) -> None:
    plan = planned(TWO_VERSIONS, tmp_path)
    chat, spare = parse_models(registry_text(plan.models, plan.services)).models
    ports = {one.name: one.grpc_port for one in plan.services}
    assert [one.weight for one in chat.versions] == [1, 0]
    assert chat.versions[1].endpoints == tuple(f"127.0.0.1:{ports[f'chat@2-{n}']}" for n in (0, 1))
    assert chat.canary is not None
    assert chat.canary.steps[0].for_s == 5
    assert (chat.resume, chat.tenants, chat.queue.size, chat.fallback) == (False, (), 0, ("spare",))
    assert chat.limits.requests_per_second == 5
    assert spare.endpoints == (f"127.0.0.1:{ports['spare-0']}",)
    assert (spare.version, spare.aliases, spare.resume) == ("", ("other",), True)


def test_what_the_registry_would_refuse_is_told_with_its_line_in_mesh_yaml() -> None:
    text = TWO_VERSIONS.replace("[spare]", "[gone]").replace('model: chat, version: "2"', "model: nobody")
    assert problems_of(text) == [
        "line 10: models[0].fallback[0]: 'gone' is not another model of this file",
        "line 17: models[1].shadow.model: 'nobody' is not a model of this file",
    ]


@pytest.mark.parametrize(
    "entry",
    [
        "{name: a}",
        "{name: a, path: x.gguf, versions: [{version: '1', path: y.gguf}]}",
        "{name: a, version: '3', versions: [{version: '1', path: y.gguf}]}",
        "{name: a, path: x.gguf, canary: {version: '2'}}",
        "{name: a, versions: [{version: '1', path: x.gguf}, {version: '1', path: y.gguf}]}",
        "{name: a, versions: [{version: '1', path: x.gguf}, {version: '2', path: y.gguf}]}",
        "{name: a, path: x.gguf, limits: {burst: 3}}",
        "{name: a, path: x.gguf, sha256: abc}",
        f"{{name: a, sha256: {'a' * 64}, versions: [{{version: '1', path: x.gguf}}]}}",
    ],
)
def test_what_does_not_fit_together_is_told(entry: str) -> None:
    assert problems_of(f"- {entry}")[0].startswith("line 1: models[0]")


def test_a_missing_file_of_a_version_is_a_problem_of_that_version_alone(tmp_path: Path) -> None:
    (tmp_path / "one.gguf").write_bytes(b"GGUF")
    one, two = resolve(parse_mesh(TWO_VERSIONS).models[0], tmp_path)
    assert one.problem is None
    assert two.problem is not None


def test_the_gateway_gets_the_files_and_redis_stands_in_no_argument_list(tmp_path: Path) -> None:
    access = Access(tmp_path / "keys.yaml", tmp_path / "tenants.yaml", "redis://:secret@127.0.0.1/0")
    services = planned(TWO_VERSIONS, tmp_path, access).services
    gateway = next(one for one in services if one.kind == "gateway")
    assert gateway.arguments[2:8] == (
        "--auth",
        "required",
        "--keys",
        str(tmp_path / "keys.yaml"),
        "--tenants",
        str(tmp_path / "tenants.yaml"),
    )
    assert gateway.environment == (("MESH_REDIS_URL", "redis://:secret@127.0.0.1/0"),)
    assert not any(one.environment for one in services if one.kind != "gateway")
    assert "secret" not in repr(services) + repr(access)


def test_without_files_the_gateway_is_open(tmp_path: Path) -> None:
    gateway = next(one for one in planned(TWO_VERSIONS, tmp_path).services if one.kind == "gateway")
    assert gateway.arguments[2:4] == ("--auth", "open")
