"""The pace of prefill follows what steps take."""

from __future__ import annotations

from workers.llama.prefill_pace import BESIDE_PROMPTS, MIN_TOKENS, PrefillPace


def test_an_unknown_pace_takes_whole_chunks() -> None:
    assert PrefillPace().tokens_within(0.1, 128) == 128


def test_a_step_has_as_many_tokens_as_fit() -> None:
    pace = PrefillPace()
    pace.observe(100, 0.1)
    assert pace.tokens_within(0.1, 128) == 100
    assert pace.tokens_within(1.0, 128) == 128


def test_a_chunk_never_falls_below_the_least() -> None:
    pace = PrefillPace()
    pace.observe(100, 100.0)
    assert pace.tokens_within(0.1, 128) == MIN_TOKENS


def test_steps_without_prompts_say_nothing() -> None:
    pace = PrefillPace()
    pace.observe(MIN_TOKENS - 1, 10.0)
    assert pace.tokens_within(0.1, 128) == 128


def test_a_fixed_cost_of_a_step_does_not_shrink_chunks_for_ever() -> None:
    pace = PrefillPace()
    tokens = 512
    for _ in range(50):
        pace.observe(tokens, 0.05 + 0.001 * tokens)
        tokens = pace.tokens_within(0.15, 512)
    assert 90 <= tokens <= 110


def test_a_step_that_next_tokens_wait_for_is_a_few_times_as_long_as_one_without_prompts() -> None:
    pace = PrefillPace()
    assert pace.shared_step_s(0.1) == 0.1

    pace.observe_decode(0.02)
    assert pace.shared_step_s(0.1) == BESIDE_PROMPTS * 0.02

    pace.observe_decode(1.0)
    assert pace.shared_step_s(0.1) == 0.1
