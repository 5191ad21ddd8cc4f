"""The choice of the next batch, for every queue that hypothesis can think of."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from workers.onnx.batching import Limits, Place, Row, next_batch, shared_limits

Queue = list[list[Row]]


def _row(index: int, length: int, lines: int = 1, group: str | None = "texts") -> Row:
    return Row(index=index, length=length, lines=lines, group=group)


_ROWS = st.builds(
    _row,
    index=st.just(0),
    length=st.integers(1, 300),
    lines=st.sampled_from([1, 1, 1, 2, 40]),
    group=st.sampled_from(["texts", "texts", "texts", "others", None]),
)
_QUEUES = st.lists(st.lists(_ROWS, min_size=1, max_size=8), min_size=1, max_size=30)
_LIMITS = st.builds(
    Limits,
    max_tokens=st.integers(1, 2000),
    max_lines=st.integers(1, 32),
    max_padding=st.integers(0, 300),
    window=st.integers(1, 64),
)


def _chosen(queue: Queue, places: list[Place]) -> list[Row]:
    return [queue[place.request][place.row] for place in places]


@given(_QUEUES, _LIMITS)
def test_a_batch_is_within_the_limits_unless_it_is_a_single_row(queue: Queue, limits: Limits) -> None:
    rows = _chosen(queue, next_batch(queue, limits))
    lines = sum(row.lines for row in rows)
    padded = lines * max(row.length for row in rows)
    tokens = sum(row.lines * row.length for row in rows)
    assert rows
    assert len(rows) == 1 or lines <= limits.max_lines
    assert len(rows) == 1 or padded <= limits.max_tokens
    assert len(rows) == 1 or padded - tokens <= limits.max_padding


@given(_QUEUES, _LIMITS)
def test_the_request_that_waited_longest_is_served_first(queue: Queue, limits: Limits) -> None:
    assert next_batch(queue, limits)[0] == Place(0, 0)


@given(_QUEUES, _LIMITS)
def test_no_row_is_taken_twice(queue: Queue, limits: Limits) -> None:
    places = next_batch(queue, limits)
    assert len(set(places)) == len(places)


@given(_QUEUES, _LIMITS)
def test_rows_of_different_groups_never_share_a_batch(queue: Queue, limits: Limits) -> None:
    rows = _chosen(queue, next_batch(queue, limits))
    assert len({row.group for row in rows}) == 1
    assert rows[0].group is not None or len(rows) == 1


@given(_QUEUES, _LIMITS)
def test_batch_after_batch_serves_every_row_once(queue: Queue, limits: Limits) -> None:
    waiting = [list(request) for request in queue]
    served: list[Row] = []
    while waiting:
        places = next_batch(waiting, limits)
        rows = _chosen(waiting, places)
        served += rows
        waiting = [[row for row in request if row not in rows] for request in waiting]
        waiting = [request for request in waiting if request]
    assert sorted(map(id, served)) == sorted(id(row) for request in queue for row in request)


def test_texts_of_the_nearest_length_join_first() -> None:
    queue = [[_row(0, length)] for length in (30, 5, 60, 29, 31, 28)]
    rows = _chosen(queue, next_batch(queue, Limits(max_tokens=4096, max_lines=3, max_padding=14)))
    assert sorted(row.length for row in rows) == [29, 30, 31]


def test_texts_that_would_mostly_be_padding_wait() -> None:
    queue = [[_row(0, length)] for length in (60, 5, 5, 5)]
    assert len(next_batch(queue, Limits(max_tokens=4096, max_lines=32, max_padding=14))) == 1


def test_of_equally_long_texts_those_that_waited_longer_join() -> None:
    queue = [[_row(0, 10)] for _ in range(6)]
    places = next_batch(queue, Limits(max_tokens=4096, max_lines=3, max_padding=14))
    assert [place.request for place in places] == [0, 1, 2]


def test_a_request_of_many_texts_does_not_crowd_out_the_others() -> None:
    queue = [[_row(index, 10) for index in range(100)], [_row(0, 10)], [_row(0, 10)]]
    places = next_batch(queue, Limits(max_tokens=4096, max_lines=8, max_padding=14))
    assert {place.request for place in places} == {0, 1, 2}


@given(st.integers(1, 5000), st.integers(1, 8), st.integers(1, 64))
def test_idle_sessions_share_what_waits(lines: int, sessions: int, max_lines: int) -> None:
    limits = shared_limits(Limits(max_tokens=4096, max_lines=max_lines, max_padding=14), lines, sessions)
    assert 1 <= limits.max_lines <= max_lines
    assert limits.max_lines * sessions >= lines or limits.max_lines == max_lines


@given(_QUEUES, _LIMITS, st.integers(1, 600))
def test_a_batch_that_has_enough_tokens_takes_no_more(queue: Queue, limits: Limits, enough: int) -> None:
    rows = _chosen(queue, next_batch(queue, dataclasses.replace(limits, enough_tokens=enough)))
    assert sum(row.lines * row.length for row in rows[:-1]) < enough
