"""The network: a llama (RMSNorm, rotary attention with grouped keys, SwiGLU), small, in torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """The sizes of the network; `context` is what the file declares, training sees up to 512 tokens."""

    vocabulary: int = 1280
    width: int = 192
    layers: int = 5
    heads: int = 6
    key_value_heads: int = 2
    feed_forward: int = 512
    context: int = 2048
    rope_base: float = 10000.0
    epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads


class Attention(nn.Module):  # type: ignore[misc]
    """Causal attention; the rotation pairs neighbours (2i, 2i+1), which llama.cpp calls NORM."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        key_value_width = shape.key_value_heads * shape.head_width
        self.query = nn.Linear(shape.width, shape.width, bias=False)
        self.key = nn.Linear(shape.width, key_value_width, bias=False)
        self.value = nn.Linear(shape.width, key_value_width, bias=False)
        self.output = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, x: torch.Tensor, rotation: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """x: float32 (batch, tokens, width); rotation: float32 (tokens, head_width / 2, 2), cos and sin.

        visible: bool (batch, 1, tokens, tokens), True where a token may look.
        """
        batch, tokens, width = x.shape
        q, k, v = (
            layer(x).view(batch, tokens, -1, self.shape.head_width).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        groups = self.shape.heads // self.shape.key_value_heads
        q, k = _rotate(q, rotation), _rotate(k, rotation)
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        return self.output(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Block(nn.Module):  # type: ignore[misc]
    """One layer: attention, then SwiGLU, each on a normalised copy and added."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.attention = Attention(shape)
        self.feed_forward_norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        self.gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: torch.Tensor, rotation: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Same shape as x."""
        x = x + self.attention(self.attention_norm(x), rotation, visible)
        h = self.feed_forward_norm(x)
        return x + self.down(functional.silu(self.gate(h)) * self.up(h))


class TinyLlama(nn.Module):  # type: ignore[misc]
    """Token ids int64 (batch, tokens) to logits float32 (batch, tokens, vocabulary); tied embeddings."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocabulary, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.width, eps=shape.epsilon)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
            if name.endswith(("output.weight", "down.weight")):
                nn.init.normal_(parameter, std=0.02 / (2 * shape.layers) ** 0.5)

    def forward(self, tokens: torch.Tensor, owners: torch.Tensor) -> torch.Tensor:
        """owners: int64 (batch, tokens); a token sees those before it that have the same owner."""
        visible = (owners[:, None, :, None] == owners[:, None, None, :]).tril()
        rotation = _rotation(self.shape, tokens.shape[1])
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, rotation, visible)
        return functional.linear(self.norm(x), self.embedding.weight)


def _rotation(shape: Shape, tokens: int) -> torch.Tensor:
    exponent = torch.arange(0, shape.head_width, 2, dtype=torch.float32) / shape.head_width
    angle = torch.outer(torch.arange(tokens, dtype=torch.float32), shape.rope_base**-exponent)
    return torch.stack((angle.cos(), angle.sin()), dim=-1)


def _rotate(x: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = rotation[..., 0], rotation[..., 1]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)
