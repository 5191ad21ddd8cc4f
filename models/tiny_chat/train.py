"""Trains the tokenizer and the network on the made-up corpus; the same seed gives the same text."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from torch.nn import functional

from models.tiny_chat.chat import SPECIAL_TOKENS
from models.tiny_chat.corpus import documents
from models.tiny_chat.network import Shape, TinyLlama

QUESTION_WEIGHT = 0.1
"""How much a token of a question counts in the loss; one of an answer counts 1."""

PACKING_CHOICE = 32
"""How many documents wait for a row that they fill well."""


@dataclass(frozen=True)
class Plan:
    """How the model is trained; lengths in tokens."""

    seed: int = 1
    steps: int = 1800
    batch_tokens: int = 2048
    short_length: int = 256
    long_length: int = 512
    long_fraction: float = 0.15
    warm_up_steps: int = 30
    decay_fraction: float = 0.5
    muon_rate: float = 0.02
    adam_rate: float = 0.004
    tokenizer_documents: int = 6000
    save_every: int = 300


class Batch(NamedTuple):
    """Rows of tokens: ids int64, weights in the loss float32, and int64 which document owns each.

    All are (rows, length + 1); -1 owns the padding.
    """

    ids: torch.Tensor
    weights: torch.Tensor
    owners: torch.Tensor


def train_tokenizer(seed: int, count: int, vocabulary: int) -> Tokenizer:
    """A byte-level BPE with GPT-2's splitting rule; special tokens have the ids 0, 1 and 2."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((document.text() for document in documents(seed, count)), trainer)
    return tokenizer


def train(
    tokenizer: Tokenizer, shape: Shape, plan: Plan, save: Callable[[TinyLlama, int, float], None]
) -> TinyLlama:
    """The trained network; `save(network, step, CPU seconds)` is called at checkpoints and at the end."""
    torch.manual_seed(plan.seed)
    network = TinyLlama(shape)
    optimizers = _optimizers(network, plan)
    rows = _Rows(tokenizer, plan.seed)
    started, cpu_started, mean_loss = time.monotonic(), time.process_time(), 0.0
    for step in range(plan.steps):
        long = step >= plan.steps * (1 - plan.long_fraction)
        length = plan.long_length if long else plan.short_length
        loss = _loss(network, rows.take(plan.batch_tokens // length, length))
        _update(network, optimizers, loss, _rate(step, plan))
        mean_loss = loss.item() if step == 0 else 0.95 * mean_loss + 0.05 * loss.item()
        if step % 50 == 0:
            passed = time.monotonic() - started
            cpu_s = time.process_time() - cpu_started
            print(
                f"step {step}/{plan.steps} loss {mean_loss:.4f} wall {passed:.0f} s cpu {cpu_s:.0f} s",
                flush=True,
            )
        if (step + 1) % plan.save_every == 0 or step + 1 == plan.steps:
            save(network, step + 1, time.process_time() - cpu_started)
    return network


def save_checkpoint(folder: Path, network: TinyLlama, tokenizer: Tokenizer) -> None:
    """network.pt and tokenizer.json, from which write_gguf makes the file that ships."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), folder / "network.pt")
    tokenizer.save(str(folder / "tokenizer.json"))


class _Encoded(NamedTuple):
    ids: list[int]
    weights: list[float]


class _Rows:
    """Whole documents packed into rows of equal length; one that is longer than a row loses its end."""

    def __init__(self, tokenizer: Tokenizer, seed: int) -> None:
        self._encoded = _encoded_documents(tokenizer, seed)
        self._waiting = list(itertools.islice(self._encoded, PACKING_CHOICE))

    def take(self, rows: int, length: int) -> Batch:
        """The next rows, of `length` + 1 tokens each."""
        shape = (rows, length + 1)
        ids, weights = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.float32)
        owners = np.full(shape, -1, dtype=np.int64)
        for row in range(rows):
            start, owner = 0, 0
            while (document := self._longest_that_fits(length + 1 - start, start == 0)) is not None:
                end = min(start + len(document.ids), length + 1)
                ids[row, start:end] = document.ids[: end - start]
                weights[row, start:end] = document.weights[: end - start]
                owners[row, start:end] = owner
                start, owner = end, owner + 1
        return Batch(torch.from_numpy(ids), torch.from_numpy(weights), torch.from_numpy(owners))

    def _longest_that_fits(self, room: int, is_first: bool) -> _Encoded | None:
        """The oldest document for an empty row, then the longest of those that wait and fit."""
        fitting = [index for index, document in enumerate(self._waiting) if len(document.ids) <= room]
        if not is_first and not fitting:
            return None
        chosen = 0 if is_first else max(fitting, key=lambda index: len(self._waiting[index].ids))
        document = self._waiting.pop(chosen)
        self._waiting.append(next(self._encoded))
        return document


def _encoded_documents(tokenizer: Tokenizer, seed: int) -> Iterator[_Encoded]:
    for part in itertools.count(1):
        for document in documents(seed * 1000 + part, 500):
            ids: list[int] = []
            weights: list[float] = []
            for text, is_learned in document.segments():
                piece = tokenizer.encode(text).ids
                ids += piece
                weights += [1.0 if is_learned else QUESTION_WEIGHT] * len(piece)
            yield _Encoded(ids, weights)


def _optimizers(network: TinyLlama, plan: Plan) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embedding and norms. Source: Jordan et al. 2024."""
    matrices = [p for p in network.blocks.parameters() if p.dim() == 2]
    others = [p for p in network.parameters() if not any(p is m for m in matrices)]
    return [
        torch.optim.Muon(matrices, lr=plan.muon_rate, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(others, lr=plan.adam_rate, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def _rate(step: int, plan: Plan) -> float:
    """The factor of the learning rates: up, level, then straight down to nearly nothing."""
    warm_up = min(1.0, (step + 1) / plan.warm_up_steps)
    left = (plan.steps - step) / (plan.steps * plan.decay_fraction)
    return min(warm_up, max(0.01, min(1.0, left)))


def _loss(network: TinyLlama, batch: Batch) -> torch.Tensor:
    logits = network(batch.ids[:, :-1], batch.owners[:, :-1])
    losses = functional.cross_entropy(logits.flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none")
    is_within = batch.owners[:, 1:] == batch.owners[:, :-1]
    wanted = (batch.weights[:, 1:] * is_within).flatten()
    return (losses * wanted).sum() / wanted.sum()


def _update(
    network: TinyLlama, optimizers: list[torch.optim.Optimizer], loss: torch.Tensor, rate: float
) -> None:
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("full_rate", group["lr"])
            group["lr"] = group["full_rate"] * rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
