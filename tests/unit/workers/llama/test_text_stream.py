"""Bytes of tokens become text: no cut characters, no leaked stop texts, no lost tokens."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from workers.llama.text_stream import TextStream, complete_length

texts = st.text(alphabet="ab<|>é€🐶\n", max_size=30)
stops = st.lists(st.text(alphabet="ab<|>é€🐶", min_size=1, max_size=4), max_size=3)
TAILS = [b"", *(bytes([first, *rest]) for first in range(0x80, 0xC0) for rest in ([], [0x80], [0x80, 0x80]))]
"""One of these completes any beginning of a character."""

cuts = st.lists(st.integers(0, 120), max_size=20)


def split(data: bytes, at: Sequence[int]) -> list[bytes]:
    """The data in pieces, cut at these positions."""
    edges = [0, *sorted(position for position in at if position <= len(data)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def run(pieces: Sequence[bytes], stop: Sequence[str] = ()) -> tuple[str, list[int], bool]:
    """Text, tokens and whether it was stopped; the tokens are numbered from 0."""
    stream = TextStream(stop)
    text, tokens = "", list[int]()
    for token, piece in enumerate(pieces):
        part = stream.add(token, piece)
        text, tokens = text + part.text, tokens + list(part.tokens)
        if stream.is_stopped:
            break
    last = stream.end()
    return text + last.text, tokens + list(last.tokens), stream.is_stopped


def before_first(text: str, stop: Sequence[str]) -> str:
    """The text up to where the first stop text begins."""
    found = [text.find(item) for item in stop if item in text]
    return text[: min(found)] if found else text


@given(texts, cuts)
def test_any_split_of_the_bytes_gives_the_same_text(text: str, at: list[int]) -> None:
    assert run(split(text.encode(), at))[0] == text


@given(st.binary(max_size=40), cuts)
def test_any_split_of_broken_bytes_gives_what_decoding_them_whole_gives(data: bytes, at: list[int]) -> None:
    whole = data[: complete_length(data)].decode("utf-8", errors="replace")
    assert run(split(data, at))[0] == whole


@given(texts, stops, cuts)
def test_a_stop_text_never_leaks_however_it_is_split(text: str, stop: list[str], at: list[int]) -> None:
    shown, _, is_stopped = run(split(text.encode(), at), stop)
    assert not any(item in shown for item in stop)
    # A text that comes one byte at a time stops at the stop text that ends first.
    ends = [text.find(item) + len(item) for item in stop if item in text]
    assert is_stopped == bool(ends)
    if not ends:
        assert shown == text
    else:
        assert text.startswith(shown)


@given(texts, st.text(alphabet="ab<|>é", min_size=1, max_size=4), cuts)
def test_one_stop_text_ends_the_answer_right_before_it(text: str, stop: str, at: list[int]) -> None:
    assert run(split(text.encode(), at), [stop])[0] == before_first(text, [stop])


@given(texts, stops, cuts)
def test_every_token_becomes_final_once_and_in_order(text: str, stop: list[str], at: list[int]) -> None:
    pieces = split(text.encode(), at)
    _, tokens, is_stopped = run(pieces, stop)
    assert tokens == list(range(len(tokens)))
    if not is_stopped:
        assert len(tokens) == len(pieces)


def test_a_token_is_final_only_when_its_whole_text_was_sent() -> None:
    stream = TextStream(["END"])
    assert stream.add(1, "€".encode()[:2]).tokens == ()
    assert stream.add(2, "€".encode()[2:] + b"E").tokens == (1,)
    piece = stream.add(3, b"x")
    assert (piece.text, piece.tokens) == ("Ex", (2, 3))


@given(st.binary(max_size=8), cuts)
def test_bytes_that_begin_no_text_are_known_before_they_are_added(data: bytes, at: list[int]) -> None:
    stream = TextStream()
    for token, piece in enumerate(split(data, at)):
        so_far = data[: sum(map(len, split(data, at)[: token + 1]))]
        is_beginning = any(
            (so_far + tail).decode("utf-8", "ignore").encode() == so_far + tail for tail in TAILS
        )
        assert stream.is_valid_next(piece) == is_beginning
        if not is_beginning:
            break
        stream.add(token, piece)


def test_an_unfinished_character_is_dropped_at_the_end() -> None:
    assert run(["a€".encode()[:3]])[0] == "a"


def test_a_stop_text_within_a_longer_one_wins_when_it_is_complete_first() -> None:
    assert run([b"a", b"b", b"c"], ["abcd", "b"]) == ("a", [0, 1], True)
