"""Sequences are leased with the longest prefix of the same tenant, and given up by age."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.llama.prefix_cache import CopyCells, PrefixCache, TrimCells, common_prefix

LONG = list(range(100, 150))


def finished(cache: PrefixCache, tokens: list[int], tenant: str = "") -> int:
    """Lease, compute and release a prompt; its sequence."""
    lease = cache.lease(tokens, tenant)
    assert lease is not None
    cache.computed(lease.sequence, len(tokens))
    cache.release(lease.sequence)
    return lease.sequence


def test_a_prompt_takes_over_the_sequence_of_its_whole_prefix() -> None:
    cache = PrefixCache(4, 1000)
    first = finished(cache, LONG)
    lease = cache.lease([*LONG, 1, 2], "")
    assert lease is not None
    assert (lease.sequence, lease.cached) == (first, 50)
    assert lease.operations == (TrimCells(first, 50),)


def test_a_prompt_that_shares_a_part_copies_it_and_leaves_the_other_whole() -> None:
    cache = PrefixCache(4, 1000)
    first = finished(cache, LONG)
    lease = cache.lease([*LONG[:20], 1, 2], "")
    assert lease is not None
    assert lease.cached == 20
    assert CopyCells(first, lease.sequence, 20) in lease.operations
    assert cache.match_length([*LONG, 1], "") == 50


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    cache = PrefixCache(4, 1000)
    finished(cache, LONG)
    lease = cache.lease(list(LONG), "")
    assert lease is not None
    assert lease.cached == len(LONG) - 1


def test_tenants_never_share_a_prefix() -> None:
    cache = PrefixCache(4, 1000)
    finished(cache, LONG, "one")
    assert cache.match_length(LONG, "two") == 0
    assert cache.match_length(LONG, "") == 0


def test_a_prefix_is_shared_with_a_sequence_that_is_still_at_work() -> None:
    cache = PrefixCache(4, 1000)
    first = cache.lease(LONG, "")
    assert first is not None
    cache.computed(first.sequence, 30)
    second = cache.lease([*LONG, 1], "")
    assert second is not None
    assert (second.cached, second.sequence != first.sequence) == (30, True)


def test_idle_prefixes_beyond_their_share_are_given_up_oldest_first() -> None:
    cache = PrefixCache(8, 100)
    finished(cache, [1, *LONG[:39]])
    finished(cache, [2, *LONG[:39]])
    finished(cache, [3, *LONG[:39]])
    assert cache.idle_tokens == 80
    assert cache.match_length([1, *LONG], "") == 0
    assert cache.match_length([3, *LONG], "") == 40


def test_use_keeps_a_prefix_young() -> None:
    cache = PrefixCache(8, 100)
    finished(cache, [1, *LONG[:39]])
    finished(cache, [2, *LONG[:39]])
    finished(cache, [1, *LONG[:39], 7])
    finished(cache, [3, *LONG[:39]])
    assert cache.match_length([1, *LONG], "") == 40
    assert cache.match_length([2, *LONG], "") == 0


def test_a_prefix_contained_in_a_newer_one_is_not_kept_twice() -> None:
    cache = PrefixCache(8, 1000)
    one, two = cache.lease(LONG[:20], ""), cache.lease([*LONG], "")
    assert one is not None
    assert two is not None
    cache.computed(one.sequence, 20)
    cache.computed(two.sequence, 50)
    cache.release(one.sequence)
    assert TrimCells(one.sequence, 0) in cache.release(two.sequence)
    assert cache.idle_tokens == 50


def test_only_computed_tokens_are_kept() -> None:
    cache = PrefixCache(4, 1000)
    lease = cache.lease(LONG, "")
    assert lease is not None
    cache.computed(lease.sequence, 30)
    assert TrimCells(lease.sequence, 30) in cache.release(lease.sequence)
    assert cache.match_length(LONG, "") == 30


def test_there_is_no_lease_when_every_sequence_is_leased() -> None:
    cache = PrefixCache(1, 1000)
    assert cache.lease(LONG, "") is not None
    assert cache.lease(LONG, "") is None


def test_the_only_free_sequence_is_cut_to_the_common_part() -> None:
    cache = PrefixCache(1, 1000)
    finished(cache, LONG)
    lease = cache.lease([*LONG[:20], 1], "")
    assert lease is not None
    assert lease.operations == (TrimCells(0, 20),)


def test_a_model_whose_state_cannot_be_cut_shares_nothing() -> None:
    cache = PrefixCache(4, 1000, can_share=False)
    finished(cache, LONG)
    assert cache.match_length(LONG, "") == 0
    assert cache.idle_tokens == 0


def test_eviction_and_forgetting_leave_nothing_behind() -> None:
    cache = PrefixCache(4, 1000)
    first = finished(cache, LONG)
    assert cache.evict_oldest() == (TrimCells(first, 0),)
    assert cache.evict_oldest() == ()
    assert cache.lease(LONG, "") is not None
    cache.forget_all()
    assert (cache.idle_tokens, cache.leased_tokens) == (0, 0)


@given(st.lists(st.integers(0, 2), max_size=20), st.lists(st.integers(0, 2), max_size=20))
def test_the_common_prefix_is_the_longest_one(first: list[int], second: list[int]) -> None:
    limit = min(len(first), len(second))
    expected = next((at for at in range(limit) if first[at] != second[at]), limit)
    assert common_prefix(first, second, limit) == expected


prompts = st.lists(st.integers(0, 1), min_size=1, max_size=12)
events = st.lists(st.tuples(prompts, st.sampled_from("ab"), st.booleans()), max_size=30)


@given(events)
def test_a_lease_holds_exactly_the_prompts_own_cells(history: list[tuple[list[int], str, bool]]) -> None:
    """Carries the operations out on a model of the cells: whatever is cached is the prompt's."""
    cache = PrefixCache(3, 20)
    cells: dict[int, list[int]] = {0: [], 1: [], 2: []}
    owners: dict[int, str] = {}
    leased: list[int] = []

    def carry_out(operations: tuple[CopyCells | TrimCells, ...]) -> None:
        for operation in operations:
            match operation:
                case CopyCells(source, target, length):
                    assert owners[source] == tenant
                    cells[target] = cells[source][:length]
                case TrimCells(sequence, length):
                    del cells[sequence][length:]

    for tokens, tenant, ends in history:
        lease = cache.lease(tokens, tenant)
        if lease is None:
            carry_out(cache.release(leased.pop(0)))
            continue
        carry_out(lease.operations)
        assert cells[lease.sequence] == tokens[: lease.cached]
        cells[lease.sequence], owners[lease.sequence] = list(tokens), tenant
        cache.computed(lease.sequence, len(tokens))
        leased.append(lease.sequence)
        if ends:
            carry_out(cache.release(leased.pop(0)))
