from __future__ import annotations

import pytest

from gateway.policy.shadow.copying import Choice, Target, choose, shadow_of, stable_of
from inference_mesh.config.model_traffic import ShadowSpec
from inference_mesh.config.models_file import ModelEntry

SPEC = ShadowSpec(version="2", share=0.25, max_in_flight=2)


def entry(name: str, **fields: object) -> ModelEntry:
    return ModelEntry.model_validate({"name": name, **fields})


TWO_VERSIONS = [
    {"version": "1", "weight": 1, "endpoints": ["127.0.0.1:1"]},
    {"version": "2", "weight": 0, "endpoints": ["127.0.0.1:2"]},
]


def test_the_share_of_the_calls_is_copied() -> None:
    chosen = [choose(SPEC, draw / 1000, 0, 0) for draw in range(1000)]
    assert chosen.count(Choice.COPY) == 250
    assert chosen.count(Choice.NOT_CHOSEN) == 750


@pytest.mark.parametrize(("in_flight", "waiting"), [(2, 0), (3, 0), (0, 1), (1, 7)])
def test_a_copy_is_dropped_where_too_many_run_or_a_caller_waits(in_flight: int, waiting: int) -> None:
    assert choose(SPEC, 0.0, in_flight, waiting) is Choice.DROPPED
    assert choose(SPEC, 0.9, in_flight, waiting) is Choice.NOT_CHOSEN


def test_a_shadow_is_a_version_of_the_model_or_another_model() -> None:
    chat = entry("chat", versions=TWO_VERSIONS, shadow={"version": "2"})
    old = entry("old", endpoints=["127.0.0.1:3"], shadow={"model": "chat"})
    named = entry("named", endpoints=["127.0.0.1:3"], shadow={"model": "old", "version": ""})
    models = {one.name: one for one in (chat, old, named)}
    assert shadow_of(chat, models) == Target("chat", "2")
    assert shadow_of(old, models) == Target("chat", "1")  # the version with the most weight
    assert shadow_of(named, models) == Target("old", "")
    assert shadow_of(old, {"old": old}) is None
    assert shadow_of(entry("plain", endpoints=["127.0.0.1:3"]), models) is None


def test_a_shadow_is_compared_with_the_version_that_takes_the_calls() -> None:
    chat = entry("chat", versions=TWO_VERSIONS, shadow={"version": "2"})
    assert stable_of(chat, Target("chat", "2")) == Target("chat", "1")
    assert stable_of(chat, Target("other", "2")) == Target("chat", "")  # several do
