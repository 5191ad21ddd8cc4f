"""The queues of all targets, and what a new registry makes of them."""

from __future__ import annotations

import asyncio
import random

from prometheus_client import CollectorRegistry

from gateway.admission.admission_queue import Ticket, Waiting
from gateway.admission.admissions import Admissions
from gateway.admission.metrics import AdmissionMetrics
from gateway.policy.admission.entry import EntryFacts
from gateway.policy.facts import Priority, Refuse
from inference_mesh.config.model_traffic import QueueSpec, VersionEntry
from inference_mesh.config.models_file import ModelEntry

CALL = EntryFacts("acme", 1.0, Priority.NORMAL, 10)
NORMAL_CHAT = {"model": "chat", "priority": "normal"}


def model(name: str, *, size: int = 10, versions: tuple[str, ...] = ()) -> ModelEntry:
    queue = QueueSpec(size=size)
    if not versions:
        return ModelEntry(name=name, endpoints=("127.0.0.1:1",), queue=queue)
    listed = tuple(VersionEntry(version=one, weight=1, endpoints=("127.0.0.1:1",)) for one in versions)
    return ModelEntry(name=name, versions=listed, queue=queue)


def admissions(*entries: ModelEntry, registry: CollectorRegistry | None = None) -> Admissions:
    made = Admissions(AdmissionMetrics(registry or CollectorRegistry()), random.Random(1))
    made.keep_only(entries)
    return made


def test_each_version_of_a_model_has_a_queue_of_its_own() -> None:
    made = admissions(model("chat", versions=("1", "2")))
    for version in ("1", "2"):
        made.resize("chat", version, 1)
    assert isinstance(made.of("chat", "1").try_enter(CALL, 0.0), Ticket)
    assert isinstance(made.of("chat", "2").try_enter(CALL, 0.0), Ticket)


async def test_a_new_registry_keeps_the_queues_of_the_targets_that_stay() -> None:
    made = admissions(model("chat", size=0))
    made.resize("chat", "", 1)
    held = made.of("chat", "").try_enter(CALL, 0.0)
    assert isinstance(made.of("chat", "").try_enter(CALL, 0.0), Refuse)
    made.keep_only([model("chat", size=1), model("other")])
    assert isinstance(made.of("chat", "").try_enter(CALL, 0.0), Waiting)
    assert isinstance(held, Ticket)


async def test_who_waits_for_a_target_that_is_no_more_waits_no_longer() -> None:
    made = admissions(model("chat", versions=("1", "2")))
    made.resize("chat", "2", 1)
    queue = made.of("chat", "2")
    now_s = asyncio.get_running_loop().time()
    queue.try_enter(CALL, now_s)
    waiting = queue.try_enter(CALL, now_s)
    assert isinstance(waiting, Waiting)
    made.keep_only([model("chat", versions=("1",))])
    assert isinstance(await waiting.turn(), Ticket)
    assert made.of("chat", "2") is not queue


async def test_the_depth_of_a_model_is_that_of_all_its_versions_and_ends_with_it() -> None:
    registry = CollectorRegistry()
    made = admissions(model("chat", versions=("1", "2")), registry=registry)
    for version in ("1", "2"):
        made.resize("chat", version, 1)
        for _ in range(2):
            made.of("chat", version).try_enter(CALL, 0.0)
    assert registry.get_sample_value("mesh_gateway_queue_depth", NORMAL_CHAT) == 2
    made.keep_only([model("other")])
    assert registry.get_sample_value("mesh_gateway_queue_depth", NORMAL_CHAT) is None
