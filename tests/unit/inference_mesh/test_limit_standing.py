from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_mesh.limit_standing import (
    KINDS,
    MAX_LENGTH,
    MAX_STANDINGS,
    LimitStanding,
    decode,
    encode,
    tightest,
)

TOKENS = LimitStanding("tenant:acme:tokens", "tokens", 1000, 640, 60, 12.5)
AMOUNTS = st.floats(min_value=0, max_value=1e12)


@given(
    st.lists(
        st.builds(
            LimitStanding,
            name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
            kind=st.sampled_from(KINDS),
            limit=AMOUNTS,
            remaining=AMOUNTS,
            window_s=AMOUNTS,
            reset_s=st.integers(0, 10**6).map(lambda milliseconds: milliseconds / 1000),
            is_degraded=st.booleans(),
        ),
        max_size=3,
    )
)
def test_what_is_written_is_read_back_and_metadata_can_carry_it(standings: list[LimitStanding]) -> None:
    text = encode(standings)
    assert text.isascii()
    assert not text or text.isprintable()
    assert " " not in text
    assert decode(text) == tuple(standings)


@given(st.one_of(st.none(), st.text(), st.text("abkqrwtd=;,.0123456789%-einf ")))
def test_no_text_makes_the_reader_raise(text: str | None) -> None:
    for one in decode(text):
        assert one.kind in KINDS
        numbers = (one.limit, one.remaining, one.window_s, one.reset_s)
        assert all(math.isfinite(number) and number >= 0 for number in numbers)


@pytest.mark.parametrize(
    "damaged",
    [
        "x;k=tokens;q=nan;r=1;w=1;t=1",
        "x;k=tokens;q=inf;r=1;w=1;t=1",
        "x;k=tokens;q=-1;r=1;w=1;t=1",
        "x;k=other;q=1;r=1;w=1;t=1",
        "x;k=tokens;q=1;r=1;w=1",
        ";k=tokens;q=1;r=1;w=1;t=1",
    ],
)
def test_a_damaged_standing_is_left_out_and_the_others_stay(damaged: str) -> None:
    assert decode(f"{damaged},{encode([TOKENS])}") == (TOKENS,)


def test_of_each_kind_the_limit_with_the_least_left_is_told_and_of_two_alike_the_later_one() -> None:
    key = LimitStanding("key:tokens", "tokens", 100, 40, 60, 10)
    tenant = LimitStanding("tenant:tokens", "tokens", 1000, 30, 60, 5)
    hourly = LimitStanding("tenant:hourly", "tokens", 5000, 30, 3600, 900)
    calls = LimitStanding("key:concurrency", "concurrency", 8, 7, 0, 0)
    assert tightest([key, tenant, calls, hourly]) == [hourly, calls]
    assert tightest([]) == []


def test_the_text_is_bounded_either_way() -> None:
    assert len(decode(encode([TOKENS] * 50))) == MAX_STANDINGS
    assert decode(",".join([encode([TOKENS])] * (MAX_LENGTH // 50))) == ()
