"""Adds tokens to answers: chooses them, turns them into text, and knows when to end.

Owns the grammars of running jobs and every reason for which an answer ends by itself. Used by
the decode thread alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from inference_mesh.errors import InternalError, InvalidInputError
from inference_mesh.v1 import payload_pb2
from workers.llama.job import Job, Progress
from workers.llama.native import NativeModel
from workers.llama.native_grammar import NativeGrammar
from workers.llama.sampling import FloatArray, adjusted, choose
from workers.llama.text_stream import Piece

STOP = payload_pb2.FINISH_REASON_STOP
LENGTH = payload_pb2.FINISH_REASON_LENGTH


class Answerer:
    """Makes the answers of one model."""

    def __init__(self, model: NativeModel, pieces: Sequence[bytes], end_tokens: frozenset[int]) -> None:
        """pieces: the bytes of each token, by id."""
        self._model = model
        self._pieces = pieces
        self._end_tokens = end_tokens
        self._grammars: dict[Job, NativeGrammar] = {}

    def advance(self, job: Job, logits: FloatArray) -> Progress | None:
        """Add one token to a job's answer; None while its text cannot be sent yet.

        logits: float32 (vocabulary,), of the job's newest token. Raises InvalidInputError for
        a grammar that llama.cpp does not take.
        """
        if job.first_token_s is None:
            job.first_token_s = time.monotonic()
        scores = adjusted(logits, job.sampling, job.tokens, job.prompt_length)
        token = self._constrained(job, scores) if job.grammar else choose(scores, job.sampling, job.made)
        job.tokens.append(token)
        if token in self._end_tokens:
            return _progress(job, job.text.end(), STOP)
        piece = job.text.add(token, self._pieces[token])
        if job.text.is_stopped:
            return _progress(job, piece, STOP)
        if job.made >= job.max_tokens:
            return _progress(job, _joined(piece, job.text.end()), LENGTH)
        return _progress(job, piece) if piece.text or piece.tokens else None

    def forget(self, job: Job) -> None:
        """Free what is kept for a job that ended."""
        grammar = self._grammars.pop(job, None)
        if grammar is not None:
            grammar.close()

    def _constrained(self, job: Job, scores: FloatArray) -> int:
        """A token that the job's grammar allows: chosen freely first, masked only if refused."""
        grammar = self._grammar_of(job)
        token = choose(scores, job.sampling, job.made)
        if not (grammar.allows(token) and job.text.is_valid_next(self._pieces[token])):
            token = self._choose_masked(job, grammar.mask(scores))
        if token not in self._end_tokens:
            grammar.accept(token)
        return token

    def _choose_masked(self, job: Job, scores: FloatArray) -> int:
        """A token with a finite score that keeps the text valid UTF-8.

        llama.cpp's grammars take overlong and out-of-range byte sequences for characters.
        """
        while True:
            token = choose(scores, job.sampling, job.made)
            if not np.isfinite(scores[token]):
                raise InternalError("the model has no token that json_schema allows here")
            if job.text.is_valid_next(self._pieces[token]):
                return token
            scores[token] = -np.inf

    def _grammar_of(self, job: Job) -> NativeGrammar:
        """The job's grammar; a new one is taken past what was delivered before."""
        if job not in self._grammars:
            grammar = self._grammars[job] = NativeGrammar(self._model, job.grammar)
            for token in job.tokens[job.prompt_length :]:
                _accept_delivered(grammar, token)
        return self._grammars[job]


def _accept_delivered(grammar: NativeGrammar, token: int) -> None:
    try:
        grammar.accept(token)
    except ValueError as error:
        raise InvalidInputError("delivered_tokens do not match json_schema") from error


def _progress(
    job: Job, piece: Piece, finish: payload_pb2.FinishReason = payload_pb2.FINISH_REASON_UNSPECIFIED
) -> Progress:
    return Progress(job, piece.text, piece.tokens, finish)


def _joined(first: Piece, second: Piece) -> Piece:
    return Piece(first.text + second.text, first.tokens + second.tokens)
