"""Which models leave the memory: the longest unused ones, and never one that must stay."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from workers.host.residency import IN_MEMORY, Budget, Phase, Resident, idle_models, room_for

GIB = 1 << 30


def resident(name: str, phase: Phase = Phase.READY, **fields: object) -> Resident:
    """A model of 1 GiB."""
    return dataclasses.replace(Resident(name, phase, GIB), **fields)  # type: ignore[arg-type]


WANTED = resident("wanted", Phase.COLD)


def test_nobody_leaves_while_there_is_room() -> None:
    room = room_for(WANTED, [resident("a"), WANTED], Budget(2 * GIB))
    assert (room.leaving, room.fits) == ((), True)


def test_the_one_that_was_used_longest_ago_leaves_first() -> None:
    models = [resident("new", used_at_s=9.0), resident("old", used_at_s=1.0), resident("mid", used_at_s=5.0)]
    assert room_for(WANTED, models, Budget(3 * GIB)).leaving == ("old",)
    assert room_for(WANTED, models, Budget(2 * GIB)).leaving == ("old", "mid")


def test_who_serves_is_pinned_or_on_its_way_stays_and_the_wanted_one_waits() -> None:
    models = [
        resident("serving", in_flight=1),
        resident("loading", Phase.LOADING),
        resident("leaving", Phase.UNLOADING),
    ]
    room = room_for(WANTED, models, Budget(3 * GIB))
    assert (room.leaving, room.fits, room.never) == ((), False, False)


def test_nobody_leaves_in_vain() -> None:
    models = [resident("idle"), resident("serving", in_flight=1, size_bytes=2 * GIB)]
    big = resident("wanted", Phase.COLD, size_bytes=2 * GIB)
    assert room_for(big, models, Budget(3 * GIB)).leaving == ()


def test_what_fits_beside_the_pinned_ones_never_is_told_at_once() -> None:
    room = room_for(WANTED, [resident("pinned", is_pinned=True)], Budget(GIB))
    assert room.never
    assert room_for(WANTED, [resident("a", in_flight=1)], Budget(GIB)).never is False


def test_the_number_of_models_is_a_limit_of_its_own() -> None:
    room = room_for(WANTED, [resident("a"), resident("b", used_at_s=1.0)], Budget(100 * GIB, models=2))
    assert room.leaving == ("a",)


def test_idle_ones_leave_after_their_time_and_never_where_it_is_0() -> None:
    models = [resident("old", used_at_s=1.0), resident("new", used_at_s=9.0), resident("pin", is_pinned=True)]
    assert idle_models(models, 10.0, 5.0) == ["old"]
    assert idle_models(models, 10.0, 0.0) == []


residents = st.builds(
    Resident,
    name=st.uuids().map(str),
    phase=st.sampled_from(Phase),
    size_bytes=st.integers(1, 8),
    used_at_s=st.floats(0, 100),
    in_flight=st.integers(0, 2),
    is_pinned=st.booleans(),
)


@given(models=st.lists(residents, max_size=8), size=st.integers(1, 8), budget=st.integers(1, 24))
def test_whoever_leaves_may_and_then_it_fits(models: list[Resident], size: int, budget: int) -> None:
    wanted = Resident("wanted", Phase.COLD, size)
    room = room_for(wanted, [*models, wanted], Budget(budget))
    by_name = {model.name: model for model in models}
    assert all(by_name[name].may_leave for name in room.leaving)
    left = [model for model in models if model.phase in IN_MEMORY and model.name not in room.leaving]
    is_within = sum(model.size_bytes for model in left) + size <= budget
    if room.fits:
        assert is_within
    else:
        movable = {model.name for model in left if model.may_leave}
        stuck = sum(model.size_bytes for model in left if model.name not in movable)
        pinned = sum(model.size_bytes for model in models if model.is_pinned)
        assert stuck + size > budget or pinned + size > budget
