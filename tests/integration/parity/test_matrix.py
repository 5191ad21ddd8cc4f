"""Every protocol in every situation: the same decision, its status, and the same steps of the metrics."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.integration.parity.dialects import FACES
from tests.integration.parity.faces import IN_BAND, TEXT, Face, Outcome, until_waiting
from tests.integration.parity.mesh import ParityMesh, parity_mesh
from tests.integration.parity.situations import (
    ANSWERED,
    IN_BAND_CELLS,
    LEFT_OUT,
    SITUATIONS,
    TOO_LATE,
    Situation,
    Told,
)

REQUESTS = "mesh_gateway_requests_total"
ONE = 1000
"""A step of one, in thousandths."""
HIDDEN = "Internal error from Core"
"""What grpc.aio's client says in place of the status of a stream that ended while it wrote."""

pytestmark = pytest.mark.asyncio(loop_scope="module")

Counts = Counter[tuple[str, ...]]
Cell = tuple[Outcome | None, Counts]
"""What a client saw, None = it left; and by how much each metric changed, in thousandths."""

CELLS = [
    pytest.param(situation, face, id=f"{face.name}/{situation.name.replace(' ', '-')}")
    for situation in SITUATIONS
    for face in FACES
    if (face.name, situation.name) not in LEFT_OUT
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ParityMesh]:
    async with parity_mesh(tmp_path_factory.mktemp("parity")) as running:
        yield running


@pytest.fixture(scope="module")
def references() -> dict[str, Cell]:
    """What the first protocol told and counted, by situation."""
    return {}


@pytest.mark.parametrize(("situation", "face"), CELLS)
async def test_a_protocol_tells_and_counts_what_the_first_one_does(
    mesh: ParityMesh, references: dict[str, Cell], situation: Situation, face: Face
) -> None:
    if situation.name not in references:
        await _cell(mesh, situation, FACES[0])  # what is kept from the first time on is kept now
        references[situation.name] = await _cell(mesh, situation, FACES[0])
        _check_counted(situation, references[situation.name][1])
    reference, expected = references[situation.name]
    outcome, steps = await _cell(mesh, situation, face)
    if outcome is not None and outcome.message == HIDDEN:
        outcome, steps = await _cell(mesh, situation, face)
    if outcome is not None and reference is not None:
        _check_told(situation, face, outcome)
    if (face.name, situation.name) in IN_BAND_CELLS:
        expected = _renamed(expected, "INVALID_ARGUMENT", "OK")
    elif outcome is not None and reference is not None:
        assert _choice_of(outcome) == _choice_of(reference)
        # A client of gRPC may tell the end of its time in words of its own.
        if not situation.may_end_at_bridge and situation.told is not TOO_LATE:
            assert outcome.message == reference.message
    steps, expected = _even(steps, situation), _even(expected, situation)
    allowed = [expected]
    if situation.may_end_at_bridge and face.is_rest:
        allowed.append(Counter())
    if situation.told is TOO_LATE:  # who waits may give up a moment before the gateway does
        allowed.append(_renamed(expected, TOO_LATE.code, "CANCELLED"))
    assert steps in allowed


async def test_the_matrix_has_every_cell_but_those_left_out_for_a_reason() -> None:
    names = {(face.name, situation.name) for situation in SITUATIONS for face in FACES}
    assert LEFT_OUT.keys() | IN_BAND_CELLS <= names
    assert len(names) == len(SITUATIONS) * len(FACES)
    assert len(CELLS) == len(names) - len(LEFT_OUT)


async def test_some_tenants_get_one_version_of_the_canary_and_some_the_other(mesh: ParityMesh) -> None:
    questions = [situation.question(mesh) for situation in SITUATIONS if situation.name.startswith("canary")]
    outcomes = [await FACES[0].ask(mesh.doors, question) for question in questions]
    assert {_choice_of(outcome)["version"] for outcome in outcomes} == {"1", "2"}


def _check_told(situation: Situation, face: Face, outcome: Outcome) -> None:
    told = situation.told
    in_band = (face.name, situation.name) in IN_BAND_CELLS
    if face.is_rest:
        assert outcome.status == told.status
    else:
        assert outcome.code == (IN_BAND if in_band else told.code)
    if not in_band and not (told is TOO_LATE and not face.is_rest):  # there the client tells the end itself
        assert outcome.kind == _kind_of(told, face)
    assert (outcome.text == TEXT) == (told is ANSWERED)
    assert bool(outcome.message) == (told is not ANSWERED)
    assert (outcome.retry_s is not None) == told.has_hint


def _kind_of(told: Told, face: Face) -> str:
    """How a face's dialect writes what kind of error it is."""
    if not face.is_rest:
        return told.reason
    kinds = {"rest-openai": told.openai, "rest-anthropic": told.anthropic, "rest-oip": ""}
    own = told.code if told is not ANSWERED else ""
    return next((kind for name, kind in kinds.items() if face.name.startswith(name)), own)


def _check_counted(situation: Situation, steps: Counts) -> None:
    """The first protocol's steps are those that the situation is to make."""
    assert [step for name, step in steps.items() if name[:2] == (REQUESTS, f"code={situation.told.code}")]
    if situation.counted:
        assert steps[tuple(situation.counted.split())] == ONE


def _even(steps: Counts, situation: Situation) -> Counts:
    """The steps without those that may differ between protocols."""
    return Counter({name: step for name, step in steps.items() if name[0] != situation.uneven})


def _choice_of(outcome: Outcome) -> dict[str, str]:
    """The model, the version and the rule that the gateway says it chose by."""
    parts = dict(part.partition("=")[::2] for part in outcome.decision.split(";") if part)
    return {name: parts[name] for name in ("model", "version", "rule") if name in parts}


def _renamed(steps: Counts, old: str, new: str) -> Counts:
    """The same steps, of a call that ended with another code."""
    return Counter(
        {tuple(label.replace(f"={old}", f"={new}") for label in name): step for name, step in steps.items()}
    )


async def _cell(mesh: ParityMesh, situation: Situation, face: Face) -> Cell:
    async with situation.scene(mesh):
        before = mesh.counts()
        outcome = await _asked(mesh, situation, face)
        await mesh.until_counted(before)
        after = mesh.counts()
    await mesh.until_quiet()
    after.subtract(before)
    return outcome, Counter({name: step for name, step in after.items() if step})


async def _asked(mesh: ParityMesh, situation: Situation, face: Face) -> Outcome | None:
    """None = the caller left."""
    question = situation.question(mesh)
    call = asyncio.ensure_future(face.ask(mesh.doors, question))
    if situation.midway is not None:
        await situation.midway(mesh)
    if not situation.leaves:
        return await call
    await until_waiting(call, lambda: mesh.engines[question.model].running == 1)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await mesh.until_quiet()
    return None
