"""Bytes of tokens become text: no cut characters, no leaked stop texts, no lost tokens."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from hypothesis import given
from hypothesis import strategies as st

from workers.llama.text_stream import Piece, TextStream, complete_length

texts = st.text(alphabet="ab<|>é€🐶\n", max_size=30)
stops = st.lists(st.text(alphabet="ab<|>é€🐶", min_size=1, max_size=4), max_size=3)
TAILS = [b"", *(bytes([first, *rest]) for first in range(0x80, 0xC0) for rest in ([], [0x80], [0x80, 0x80]))]
"""One of these completes any beginning of a character."""

cuts = st.lists(st.integers(0, 120), max_size=20)


def split(data: bytes, at: Sequence[int]) -> list[bytes]:
    """The data in pieces, cut at these positions."""
    edges = [0, *sorted(position for position in at if position <= len(data)), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def run(
    pieces: Sequence[bytes], stop: Sequence[str] = (), resumed: TextStream | None = None, first: int = 0
) -> tuple[str, list[int], bool]:
    """Text, tokens and whether it was stopped, from the first token on; tokens are numbered from 0."""
    stream = resumed or TextStream(stop)
    text, tokens = "", list[int]()
    for token, piece in list(enumerate(pieces))[first:]:
        part = stream.add(token, piece)
        text, tokens = text + part.text, tokens + list(part.tokens)
        if stream.is_stopped:
            break
    last = stream.end()
    return text + last.text, tokens + list(last.tokens), stream.is_stopped


def messages(pieces: Sequence[bytes], stop: Sequence[str]) -> Iterator[tuple[str, list[int]]]:
    """Text and tokens that were sent by each message before the last."""
    stream = TextStream(stop)
    text, tokens = "", list[int]()
    for token, piece in enumerate(pieces):
        yield text, tokens
        part = stream.add(token, piece)
        text, tokens = text + part.text, tokens + list(part.tokens)
        if stream.is_stopped:
            return


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


def test_a_token_is_sent_with_all_of_its_text_or_not_at_all() -> None:
    stream = TextStream(["END"])
    assert stream.add(1, b"so ") == Piece("so ", (1,))
    assert stream.add(2, "€".encode()[:2]) == Piece()
    assert stream.add(3, "€".encode()[2:] + b"E") == Piece()
    assert stream.add(4, b"x") == Piece("€Ex", (2, 3, 4))


@given(texts, stops, cuts)
def test_an_answer_that_breaks_anywhere_goes_on_to_the_same_text_and_tokens(
    text: str, stop: list[str], at: list[int]
) -> None:
    pieces = split(text.encode(), at)
    whole = run(pieces, stop)
    for sent_text, sent_tokens in messages(pieces, stop):
        resumed = TextStream(stop)
        resumed.pass_over(pieces[: len(sent_tokens)])
        assert not resumed.is_stopped
        text_after, tokens_after, is_stopped = run(pieces, stop, resumed, len(sent_tokens))
        assert (sent_text + text_after, sent_tokens + tokens_after, is_stopped) == whole


@given(texts, cuts, st.integers(0, 20))
def test_a_character_that_the_delivered_tokens_leave_unfinished_is_sent_with_its_end(
    text: str, at: list[int], delivered: int
) -> None:
    pieces = split(text.encode(), at)
    before, after = b"".join(pieces[:delivered]), pieces[delivered:]
    resumed = TextStream()
    resumed.pass_over(pieces[:delivered])
    sent = before[: complete_length(before)].decode()
    assert sent + run(after, (), resumed)[0] == text


def test_a_stop_text_that_begins_in_what_was_delivered_ends_the_answer() -> None:
    stream = TextStream(["END"])
    stream.pass_over([b"so E", b"N"])
    assert stream.add(3, b"D.") == Piece("", (3,))
    assert stream.is_stopped


def test_what_was_delivered_past_a_stop_text_ends_the_answer_at_once() -> None:
    stream = TextStream(["END"])
    stream.pass_over([b"so EN", b"D."])
    assert stream.is_stopped
    assert stream.end() == Piece()


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
