from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_mesh.config.errors import ConfigError
from inference_mesh.config.keys_file import hash_of, id_of, new_key, parse_keys
from inference_mesh.config.models_file import Target, parse_models
from inference_mesh.config.watched_file import WatchedFile


def test_the_three_line_entry_is_an_http_service() -> None:
    entry = parse_models("- name: llm\n  service: llm-service\n  path: /infer\n").models[0]
    assert (entry.protocol, entry.variants[0].targets) == ("http", (Target("llm-service", 8080),))


def test_without_a_path_it_is_grpc_on_its_port() -> None:
    entry = parse_models("models:\n- name: llm\n  service: llm.ai-models\n").models[0]
    assert (entry.protocol, entry.variants[0].targets) == ("grpc", (Target("llm.ai-models", 50051),))


def test_endpoints_stand_for_replicas() -> None:
    entry = parse_models("- name: a\n  endpoints: ['127.0.0.1:1', '[::1]:2']\n").models[0]
    assert entry.variants[0].targets == (Target("127.0.0.1", 1), Target("::1", 2))


@pytest.mark.parametrize(
    ("text", "where", "line"),
    [
        ("- name: a\n  servce: x\n", "models[0].servce", 2),
        ("- name: a\n  service: x:0\n", "models[0].service", 2),
        ("- name: a\n  service: x\n\n- name: A\n  service: x\n", "models[1].name", 4),
        ("- {name: a, service: x}\n- {name: a, service: x}\n", "models[1].name", 2),
        ("- {name: a, service: x}\n- {name: b, service: x, aliases: [a]}\n", "models[1].aliases[0]", 2),
        ("- name: a\n", "models[0]", 1),
        ("- name: a\n  service: x\n  endpoints: ['x:1']\n", "models[0]", 1),
        ("- name: a\n  endpoints: [x]\n", "models[0].endpoints", 2),
        ("- name: a\n  service: x\n  path: infer\n", "models[0].path", 3),
        ("- name: a\n  service: x\n  task: dance\n", "models[0].task", 3),
        ("- name: a\n  service: x\n  timeout_s: 0\n", "models[0].timeout_s", 3),
        ("models: []\n", "models", 1),
        ("- name: a\n  name: b\n  service: x\n", "", 2),
        ("a: &x 1\nb: *x\n", "", 2),
        ("a: [\n", "", 2),
        ("- name: a\n  [b, c]: d\n", "", 2),
        ("- !!int ''\n", "", 0),
        ("- !!bool x\n", "", 0),
        ("- !!timestamp x\n", "", 0),
        ("- {name: a, service: x, path: /infer, task: embed}\n", "models[0]", 1),
        (
            "- {name: a, service: x, shadow: {model: b, share: 1}}\n- {name: b, service: y, path: /infer}\n",
            "models[0].shadow.model",
            1,
        ),
        ("", "", 0),
        ("5", "", 0),
    ],
)
def test_a_wrong_registry_says_what_and_where(text: str, where: str, line: int) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_models(text)
    assert (caught.value.problems[0].where, caught.value.problems[0].line) == (where, line)


@given(st.text(max_size=300))
def test_any_text_is_a_registry_or_a_config_error(text: str) -> None:
    try:
        parse_models(text)
    except ConfigError as error:
        assert error.problems


def test_a_new_key_is_found_by_its_id_and_stored_as_a_hash() -> None:
    plain, stored = new_key(tenant="acme")
    assert id_of(plain) == stored.id
    assert stored.sha256 == hash_of(plain) == hashlib.sha256(plain.encode()).hexdigest()
    assert plain.split("_", 2)[2] not in stored.model_dump_json()


@pytest.mark.parametrize(
    "text", ["keys: [{id: a}]", "keys: 1", "key: []", "keys: [{id: abcdefgh, sha256: x}]"]
)
def test_wrong_keys_files_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_keys(text)


def test_an_id_that_stands_twice_is_refused() -> None:
    entry = f"{{id: abcdefgh, sha256: {'0' * 64}}}"
    with pytest.raises(ConfigError):
        parse_keys(f"keys: [{entry}, {entry}]")


def test_an_empty_keys_file_has_no_keys() -> None:
    assert parse_keys("") == ()


@pytest.mark.parametrize("text", ["keys: [{}]", "keys: [{{id: abcdefgh, sha256: {}}}]", "keys: {}"])
def test_a_key_pasted_into_the_keys_file_is_in_no_error(text: str) -> None:
    plain, _ = new_key()
    with pytest.raises(ConfigError) as raised:
        parse_keys(text.format(plain))
    assert plain not in str(raised.value)


def _watched(path: Path) -> tuple[WatchedFile[int], list[int], list[bool]]:
    values: list[int] = []
    reloads: list[bool] = []

    def parse(text: str) -> int:
        try:
            return int(text)
        except ValueError:
            raise ConfigError(str(path), ()) from None

    watched = WatchedFile(
        path, parse, on_change=values.append, on_reload=lambda error: reloads.append(error is None)
    )
    return watched, values, reloads


def test_the_last_good_content_stays_while_the_file_is_bad_or_gone(tmp_path: Path) -> None:
    path = tmp_path / "value"
    path.write_text("1")
    watched, values, reloads = _watched(path)
    assert watched.load() == 1
    path.write_text("bad")
    watched.check()
    watched.check()
    assert (watched.value, watched.last_error is not None, reloads) == (1, True, [True, False])
    path.unlink()
    watched.check()
    assert watched.value == 1
    path.write_text("2")
    watched.check()
    assert (values, watched.last_error) == ([1, 2], None)


def test_going_back_to_the_good_content_clears_the_error(tmp_path: Path) -> None:
    path = tmp_path / "value"
    path.write_text("1")
    watched, _, reloads = _watched(path)
    watched.load()
    path.write_text("bad")
    watched.check()
    path.write_text("1")
    watched.check()
    assert (watched.last_error, reloads) == (None, [True, False, True])


def test_a_configmap_swap_of_the_data_link_is_seen(tmp_path: Path) -> None:
    for name, value in (("v1", "1"), ("v2", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "value").write_text(value)
    data = tmp_path / "..data"
    data.symlink_to("v1")
    (tmp_path / "value").symlink_to("..data/value")
    watched, values, _ = _watched(tmp_path / "value")
    watched.load()
    swap = tmp_path / "..tmp"
    swap.symlink_to("v2")
    swap.replace(data)
    watched.check()
    assert values == [1, 2]
