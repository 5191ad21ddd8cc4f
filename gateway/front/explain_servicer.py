"""PolicyService: what the policy would make of a call, without making it.

Owns the answer. Every figure is asked of its owner and nothing is counted, so that asking is
free and true at the moment of asking.
"""

from __future__ import annotations

import asyncio
import time

import grpc

from gateway.admission.admissions import Admissions
from gateway.call import Context, priority_of
from gateway.front.desk import CallDesk
from gateway.front.refusals import error_of
from gateway.limits.limiter import Limiter
from gateway.policy.admission.entry import EntryFacts
from gateway.policy.engine import PolicyEngine
from gateway.policy.facts import Admit, Caller, CallFacts, Cost, RefusalKind, Refuse, Standing
from gateway.policy.request_cost import NOTHING, cost_of, payload_facts
from gateway.policy.routing.replica import weight_of
from gateway.upstream.fleet import Fleet
from inference_mesh.messages import parsed
from inference_mesh.metadata import Metadata
from inference_mesh.v1 import policy_pb2

POLICY_SERVICE = "inference_mesh.v1.PolicyService"
KINDS = {
    "requests": RefusalKind.RATE_LIMITED,
    "concurrency": RefusalKind.TOO_MANY_AT_ONCE,
    "tokens": RefusalKind.TOKEN_BUDGET,
}


class ExplainServicer:
    """Handler of PolicyService.Explain, over raw bytes as the data path's."""

    def __init__(
        self,
        desk: CallDesk,
        policy: PolicyEngine,
        limiter: Limiter,
        admissions: Admissions,
        fleet: Fleet,
    ) -> None:
        self._desk = desk
        self._policy = policy
        self._limiter = limiter
        self._admissions = admissions
        self._fleet = fleet

    def handlers(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        """The handlers by method."""
        return {"Explain": grpc.unary_unary_rpc_method_handler(self.explain)}

    async def explain(self, message: bytes, context: Context) -> bytes:
        """PolicyService.Explain."""
        with self._desk.observed("Explain", context) as call:
            caller = await self._desk.identify(call)
            request = parsed(policy_pb2.ExplainRequest, message)
            metadata = (*_sticky(self._policy, request), *call.metadata)
            return self._explained(caller, request, metadata).SerializeToString()

    def _explained(
        self, caller: Caller, request: policy_pb2.ExplainRequest, metadata: Metadata
    ) -> policy_pb2.ExplainResponse:
        now_s = asyncio.get_running_loop().time()
        answer = policy_pb2.ExplainResponse(
            tenant=caller.tenant.name, key_id=caller.key_id, priority=caller.tenant.priority
        )
        facts = CallFacts(request.model, request.version, request.ByteSize(), now_s, time.time(), metadata)
        decision = self._policy.admit(caller, facts, self._desk.draw())
        if isinstance(decision, Refuse):
            _refuse(answer, decision)
            return answer
        asked = payload_facts(request.payload) if request.HasField("payload") else NOTHING
        cost = cost_of(asked, caller.tenant, decision.model)
        answer.prompt_tokens, answer.completion_tokens = cost.prompt_tokens, cost.completion_tokens
        self._tell_target(answer, decision, now_s)
        if not request.version:  # no other model has the version that is asked for
            others = self._policy.fallbacks_of(decision, self._desk.draw())
            answer.fallback.extend(other.model.name for other in others)
        self._tell_limits(answer, decision, cost, now_s)
        queue = self._admissions.of(decision.model.name, decision.version)
        tenant = caller.tenant
        entry = EntryFacts(tenant.name, tenant.weight, priority_of(caller), max(1, cost.total))
        answer.expected_wait_s = queue.expected_wait_s(entry)
        return answer

    def _tell_target(self, answer: policy_pb2.ExplainResponse, decision: Admit, now_s: float) -> None:
        answer.target.model, answer.target.version = decision.model.name, decision.version
        answer.rule = decision.rule.value
        target = self._fleet.target(decision.model.name, decision.version)
        for endpoint in target.pool.endpoints if target is not None else ():
            answer.replicas.add(
                address=endpoint.address,
                available=endpoint.is_healthy and not endpoint.conduct.is_out(now_s),
                outstanding=endpoint.outstanding,
                weight=weight_of(endpoint, now_s),
            )

    def _tell_limits(
        self, answer: policy_pb2.ExplainResponse, decision: Admit, cost: Cost, now_s: float
    ) -> None:
        rules = self._policy.rules_of(decision.caller, decision.model)
        for standing in self._limiter.standings(rules, now_s):
            answer.limits.add(
                name=standing.name,
                kind=standing.kind,
                limit=standing.limit,
                remaining=standing.remaining,
                window_s=standing.window_s,
                reset_s=standing.reset_s,
                degraded=standing.is_degraded,
            )
            if not answer.HasField("refusal"):
                _refuse_if_spent(answer, standing, cost)


def _refuse_if_spent(answer: policy_pb2.ExplainResponse, standing: Standing, cost: Cost) -> None:
    """Tell the refusal if a limit has no room for the call."""
    needed = cost.prompt_tokens + min(1, cost.completion_tokens) if standing.kind == "tokens" else 1
    if standing.remaining >= needed:
        if standing.kind == "tokens":
            room = int(standing.remaining) - cost.prompt_tokens
            answer.completion_tokens = min(answer.completion_tokens, room)
        return
    message = f"{standing.name} has room for {standing.remaining:g} and the call needs {needed}"
    _refuse(answer, Refuse(KINDS[standing.kind], message, standing.reset_s, (standing,)))


def _refuse(answer: policy_pb2.ExplainResponse, refusal: Refuse) -> None:
    error = error_of(refusal)
    answer.refusal.code, answer.refusal.reason = error.code.name, error.reason
    answer.refusal.message, answer.refusal.retry_after_s = error.message, error.retry_after_s or 0.0


def _sticky(policy: PolicyEngine, request: policy_pb2.ExplainRequest) -> Metadata:
    """The header that the model's canary is sticky by, with the value that is asked about."""
    entry = policy.entry_of(request.model)
    if entry is None or entry.canary is None or not request.sticky_key:
        return ()
    kind, _, header = entry.canary.sticky.partition(":")
    return ((header, request.sticky_key),) if kind == "header" else ()
