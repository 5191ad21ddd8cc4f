"""What the gateway would make of a call, asked for and shown.

Names are shown as Text and never as markup, in which `:ab:` may be an emoji and `[x]` a style.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from inference_mesh.client import MeshClient
from inference_mesh.errors import ModelNotFoundError
from inference_mesh.v1 import payload_pb2, policy_pb2
from mesh_cli.errors import FailedError
from mesh_cli.inference import Question
from mesh_cli.target import Access


@dataclasses.dataclass(frozen=True, slots=True)
class Inquiry:
    """What is to be explained. question: what would be sent; None = a request that costs nothing."""

    model: str
    version: str
    sticky_key: str
    question: Question | None


async def fetch_explanation(inquiry: Inquiry, access: Access) -> policy_pb2.ExplainResponse:
    """The explanation. Raises MeshError, UsageError; a refusal is part of it."""
    async with access.client() as mesh:
        return await mesh.explain(
            inquiry.model,
            await _payload(mesh, inquiry),
            version=inquiry.version,
            sticky_key=inquiry.sticky_key,
        )


def explanation_json(answer: policy_pb2.ExplainResponse) -> dict[str, object]:
    """The explanation for scripts; `refusal` is null where the call would be made."""
    has_target = bool(answer.target.model)
    return {
        "tenant": answer.tenant,
        "key_id": answer.key_id,
        "priority": answer.priority,
        "target": {"model": answer.target.model, "version": answer.target.version} if has_target else None,
        "rule": answer.rule,
        "fallback": list(answer.fallback),
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
        "limits": [_limit_json(one) for one in answer.limits],
        "expected_wait_s": answer.expected_wait_s,
        "replicas": [_replica_json(one) for one in answer.replicas],
        "refusal": _refusal_json(answer.refusal) if answer.HasField("refusal") else None,
    }


def explanation_view(answer: policy_pb2.ExplainResponse) -> Group:
    """The explanation for a person: the decision, then the limits, then the replicas."""
    facts = Table(box=None, pad_edge=False, show_header=False)
    for name, text in _facts(answer):
        facts.add_row(Text(name, style="bold"), text)
    parts = [facts]
    if answer.limits:
        parts.append(_limits_table(answer.limits))
    if answer.replicas:
        parts.append(_replicas_table(answer.replicas))
    return Group(*(part for table in parts for part in (table, "")))


async def _payload(mesh: MeshClient, inquiry: Inquiry) -> payload_pb2.Payload | None:
    """The payload by the model's task. An unknown model has none: the explanation says that it is."""
    if inquiry.question is None:
        return None
    try:
        model = await mesh.model(inquiry.model)
    except ModelNotFoundError:
        return None
    if model.task == payload_pb2.TASK_UNSPECIFIED:
        raise FailedError(f"model '{model.name}' has not been loaded yet; `mesh status` says why")
    return inquiry.question.payload(model.task)


def _facts(answer: policy_pb2.ExplainResponse) -> list[tuple[str, Text]]:
    key = f", key {answer.key_id}" if answer.key_id else ""
    facts = [("caller", Text(f"tenant {answer.tenant}{key}, priority {answer.priority}"))]
    if answer.HasField("refusal"):
        refusal = answer.refusal
        hint = f"; come back in {_seconds(refusal.retry_after_s)}" if refusal.retry_after_s else ""
        words = f"{refusal.code} {refusal.reason}: {refusal.message}{hint}"
        facts.append(("refused", Text(words, style="red")))
    if answer.target.model:
        version = f" version {answer.target.version}" if answer.target.version else ""
        facts.append(("target", Text(f"{answer.target.model}{version}, by {answer.rule}")))
        tokens = f"{answer.prompt_tokens} of the prompt + {answer.completion_tokens} of the answer, at most"
        facts += [("tokens", Text(tokens)), ("wait", Text(_seconds(answer.expected_wait_s)))]
    if answer.fallback:
        facts.append(("fallback", Text(", ".join(answer.fallback))))
    return facts


def _limits_table(limits: Sequence[policy_pb2.LimitStanding]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("LIMIT", "LEFT", "OF", "IN", "ALL BACK IN", ""):
        table.add_column(heading)
    for one in limits:
        left = f"[red]{_amount(one.remaining)}[/]" if one.remaining < 1 else _amount(one.remaining)
        window, reset = (_seconds(one.window_s), _seconds(one.reset_s)) if one.window_s else ("at once", "-")
        note = "[yellow]Redis is gone: this gateway's share[/]" if one.degraded else ""
        table.add_row(Text(one.name), left, f"{_amount(one.limit)} {one.kind}", window, reset, note)
    return table


def _replicas_table(replicas: Sequence[policy_pb2.Replica]) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in ("REPLICA", "AVAILABLE", "CALLS", "WEIGHT", "PREFIX"):
        table.add_column(heading)
    for one in replicas:
        available = "[green]yes[/]" if one.available else "[red]no[/]"
        home = "home" if one.home else ""
        table.add_row(Text(one.address), available, str(one.outstanding), f"{one.weight:.2f}", home)
    return table


def _limit_json(one: policy_pb2.LimitStanding) -> dict[str, object]:
    return {
        "name": one.name,
        "kind": one.kind,
        "limit": one.limit,
        "remaining": one.remaining,
        "window_s": one.window_s,
        "reset_s": one.reset_s,
        "degraded": one.degraded,
    }


def _replica_json(one: policy_pb2.Replica) -> dict[str, object]:
    return {
        "address": one.address,
        "available": one.available,
        "outstanding": one.outstanding,
        "weight": one.weight,
        "home": one.home,
    }


def _refusal_json(one: policy_pb2.Refusal) -> dict[str, object]:
    return {
        "code": one.code,
        "reason": one.reason,
        "message": one.message,
        "retry_after_s": one.retry_after_s or None,
    }


def _amount(value: float) -> str:
    return f"{value:,.10g}"


def _seconds(value: float) -> str:
    return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.4g} s"
