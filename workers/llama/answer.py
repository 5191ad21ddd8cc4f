"""Adds tokens to answers: chooses them, turns them into text, and knows when to end.

Owns every reason for which an answer ends by itself. Used by the decode thread alone.
"""

from __future__ import annotations

import time

from inference_mesh.v1 import payload_pb2
from workers.llama.constrained import choose_allowed
from workers.llama.job import Job, Progress
from workers.llama.sampling import FloatArray, adjusted, choose
from workers.llama.text_stream import Piece
from workers.llama.tools.call_stream import CallPiece
from workers.llama.vocabulary import Vocabulary

GOES_ON = payload_pb2.FINISH_REASON_UNSPECIFIED
STOP = payload_pb2.FINISH_REASON_STOP
LENGTH = payload_pb2.FINISH_REASON_LENGTH
TOOL_CALLS = payload_pb2.FINISH_REASON_TOOL_CALLS


class Answerer:
    """Makes the answers of one model."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def advance(self, job: Job, logits: FloatArray) -> Progress | None:
        """Add one token to a job's answer; None while its text cannot be sent yet.

        logits: float32 (vocabulary,), of the job's newest token. Raises InvalidInputError for
        a grammar that has no token for what may follow, or too many ways to follow it.
        """
        if job.first_token_s is None:
            job.first_token_s = time.monotonic()
        vocabulary = job.vocabulary or self._vocabulary
        scores = adjusted(logits, job.sampling, job.tokens, job.prompt_length)
        if job.grammar is None:
            token = choose(scores, job.sampling, job.made)
        else:
            token = choose_allowed(job.grammar, vocabulary, scores, job.sampling, job.made)
        job.tokens.append(token)
        if token in vocabulary.end_tokens:
            return _progress(job, job.text.end(), STOP)
        if job.logprobs is not None:
            job.logprobs.note(logits, token)
        piece = job.text.add(token, vocabulary.pieces[token])
        if job.text.is_stopped:
            return _progress(job, piece, STOP)
        if job.made >= job.max_tokens:
            return _progress(job, _joined(piece, job.text.end()), LENGTH)
        return _progress(job, piece, GOES_ON) if piece.text or piece.tokens else None


def _progress(job: Job, piece: Piece, finish: payload_pb2.FinishReason) -> Progress | None:
    """None if the answer goes on, and all of the piece is held."""
    if job.calls is None and job.logprobs is None:
        return Progress(job, piece.text, piece.tokens, finish)
    sent = CallPiece(piece.text, piece.tokens)
    if job.calls is not None:
        sent = job.calls.add(piece) if finish == GOES_ON else job.calls.end(piece)
        if finish == STOP and job.calls.made_calls:
            finish = TOOL_CALLS
        if finish == GOES_ON and not (sent.text or sent.tokens):
            return None
    logprobs = job.logprobs.take(len(sent.tokens)) if job.logprobs is not None else ()
    return Progress(job, sent.text, sent.tokens, finish, calls=sent.calls, logprobs=logprobs)


def _joined(first: Piece, second: Piece) -> Piece:
    return Piece(first.text + second.text, first.tokens + second.tokens)
