"""How many threads a step takes: as many as have proven worth it."""

from __future__ import annotations

from workers.llama.thread_choice import LARGE_STEP_TOKENS, ThreadChoice

THREADS = 4


def taken(choice: ThreadChoice, seconds: dict[int, float], tokens: int = 1, steps: int = 301) -> list[int]:
    """The threads of so many steps that take these seconds with one thread and with all."""
    chosen = []
    for _ in range(steps):
        chosen.append(choice.threads(tokens))
        choice.observe(tokens, chosen[-1], seconds[chosen[-1]])
    return chosen


def test_threads_that_make_a_step_no_faster_are_left_out() -> None:
    chosen = taken(ThreadChoice(THREADS), {1: 0.010, THREADS: 0.009})

    assert chosen.count(1) > 290


def test_threads_that_make_a_step_faster_are_taken() -> None:
    chosen = taken(ThreadChoice(THREADS), {1: 0.010, THREADS: 0.005})

    assert chosen.count(THREADS) > 290


def test_the_choice_follows_a_machine_that_changes() -> None:
    choice = ThreadChoice(THREADS)
    taken(choice, {1: 0.010, THREADS: 0.005})

    assert taken(choice, {1: 0.010, THREADS: 0.050}, steps=50)[-1] == 1
    assert taken(choice, {1: 0.010, THREADS: 0.005}, steps=1000)[-1] == THREADS


def test_one_slow_step_changes_nothing() -> None:
    choice = ThreadChoice(THREADS)
    taken(choice, {1: 0.010, THREADS: 0.005}, steps=50)
    choice.observe(1, THREADS, 1.0)

    assert choice.threads(1) == THREADS


def test_each_size_of_a_step_has_a_choice_of_its_own() -> None:
    choice = ThreadChoice(THREADS)
    taken(choice, {1: 0.010, THREADS: 0.020}, tokens=1)
    taken(choice, {1: 0.080, THREADS: 0.030}, tokens=16)

    assert (choice.threads(1), choice.threads(16)) == (1, THREADS)


def test_a_large_step_takes_all_threads_without_a_trial() -> None:
    chosen = taken(ThreadChoice(THREADS), {THREADS: 1.0}, tokens=LARGE_STEP_TOKENS)

    assert set(chosen) == {THREADS}


def test_a_single_thread_is_no_choice() -> None:
    assert set(taken(ThreadChoice(1), {1: 0.010})) == {1}
