"""The one way of an inference call through the gateway, whatever method it came by.

identify → route → limits → turn → relay, and the next model of the chain if nobody could
answer. Owns that order and what is given back when a step fails; each step's decision is the
policy's, and each state has its owner elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from gateway.admission.admission_queue import Ticket, Waiting
from gateway.admission.admissions import Admissions
from gateway.call import Call, WorkerStatusError, priority_of
from gateway.front.desk import CallDesk
from gateway.front.refusals import error_of
from gateway.limits.grant import Grant
from gateway.limits.limiter import Limiter
from gateway.policy.admission.entry import EntryFacts
from gateway.policy.engine import PolicyEngine
from gateway.policy.facts import Admit, CallFacts, Cost, Refuse
from gateway.policy.limits.rules import LimitRule
from gateway.policy.request_cost import RequestFacts, cost_of, defaults_for_worker, has_defaults, oip_facts
from gateway.policy.routing.fallback import falls_back
from gateway.shadow.shadows import Shadows
from gateway.upstream.fleet import Fleet, Model
from inference_mesh.error_status import reason_of
from inference_mesh.errors import MeshError, ModelNotFoundError
from inference_mesh.routing_fields import RoutingFields
from inference_mesh.tracing import span

MAX_ROUTES = 3
"""How often a call whose target disappears while it waits is routed anew."""

T = TypeVar("T")


class Serving:
    """Leads calls through the policy to a model."""

    def __init__(
        self,
        desk: CallDesk,
        policy: PolicyEngine,
        limiter: Limiter,
        admissions: Admissions,
        fleet: Fleet,
        shadows: Shadows,
    ) -> None:
        self._desk = desk
        self._policy = policy
        self._limiter = limiter
        self._admissions = admissions
        self._fleet = fleet
        self._shadows = shadows

    async def route(self, call: Call, fields: RoutingFields, size_bytes: int) -> Admit:
        """Know the caller and the target of a call. Raises the MeshError of a refusal."""
        self._desk.take(call, fields.request_id, size_bytes)
        caller = await self._desk.identify(call)
        now_s = asyncio.get_running_loop().time()
        facts = CallFacts(fields.model, fields.version, size_bytes, now_s, time.time(), call.metadata)
        decision = self._policy.admit(caller, facts, self._desk.draw())
        if isinstance(decision, Refuse):
            raise error_of(decision)
        call.admission = decision
        call.asked_version = fields.version
        self._desk.count_in(call)
        return decision

    async def serve(self, call: Call, facts: RequestFacts, ask: Callable[[Model], Awaitable[T]]) -> T:
        """The answer of the first target of the chain that can give one.

        ask: relays the call to a target; raises MeshError and WorkerStatusError. Falls back
        only before the first byte, and not for a caller who asks for a version: no other model
        has it. If all fail, the first failure is the answer.
        """
        first = call.admitted
        others = () if call.asked_version else self._policy.fallbacks_of(first, self._desk.draw())
        failure: MeshError | WorkerStatusError | None = None
        left = list(others)
        admitted = first
        while True:
            try:
                return await self._at(call, admitted, facts, ask)
            except (MeshError, WorkerStatusError) as error:
                failure = failure or error
                if not left or call.delivered or not falls_back(_reason(error)):
                    break
                self._leave(call, error)
                call.fallback_from = first.model.name
                admitted = left.pop(0)
        call.admission, call.fallback_from = first, ""
        raise failure

    async def serve_without_turn(
        self, call: Call, facts: RequestFacts, ask: Callable[[Model], Awaitable[T]]
    ) -> T:
        """The answer of the target of a stream of requests, which may be idle for most of its life.

        It counts against the limits, but holds no place in the queue, and no other model can
        take it over. facts: of its first request.
        """
        admitted = call.admitted
        await self._grant(call, admitted, facts)
        return await ask(self.target(admitted))

    def target(self, admitted: Admit) -> Model:
        """The replicas of a decision. Raises ModelNotFoundError if the registry just changed."""
        target = self._fleet.target(admitted.model.name, admitted.version)
        if target is None:
            raise ModelNotFoundError(f"there is no model '{admitted.model.name}'")
        return target

    async def admit_more(self, call: Call, size_bytes: int) -> None:
        """Admit one more request of an open stream; waits while its rate is spent.

        What it may use of a token budget is reserved until the stream ends, which alone tells what
        was used. Raises the MeshError of any other refusal, as when the key was revoked or a budget
        is spent.
        """
        caller = await self._desk.identify(call)
        refusal = self._policy.check_message(caller, size_bytes)
        if refusal is not None:
            raise error_of(refusal)
        entry = call.admitted.model
        rules = self._policy.rules_of(caller, entry)
        await self._reserve_more(call, tuple(rule for rule in rules if rule.kind == "tokens"), size_bytes)
        await self._wait_for(tuple(rule for rule in rules if rule.kind == "requests"))

    async def _reserve_more(self, call: Call, budgets: tuple[LimitRule, ...], size_bytes: int) -> None:
        if not budgets:
            return
        admitted = call.admitted
        facts = oip_facts(size_bytes, admitted.model.task)
        cost = cost_of(facts, admitted.caller.tenant, admitted.model)
        grant = await self._acquired(budgets, cost)
        if isinstance(grant, Refuse):
            call.refused_by = grant.standings
            raise error_of(grant)
        call.later_grants.append(grant)
        call.later_prompt_tokens += cost.prompt_tokens

    async def _wait_for(self, rates: tuple[LimitRule, ...]) -> None:
        while rates:
            grant = await self._acquired(rates, Cost())
            if isinstance(grant, Grant):
                grant.settle(0, asyncio.get_running_loop().time())
                return
            if grant.retry_after_s is None:
                raise error_of(grant)
            await asyncio.sleep(grant.retry_after_s)

    async def _at(
        self, call: Call, admitted: Admit, facts: RequestFacts, ask: Callable[[Model], Awaitable[T]]
    ) -> T:
        """The answer of one target; of the model's other version if the registry changed meanwhile."""
        for _ in range(MAX_ROUTES):
            call.admission = admitted
            await self._grant(call, admitted, facts)
            async with self._turn(call, admitted):
                target = self._fleet.target(admitted.model.name, admitted.version)
                if target is not None:
                    return await ask(target)
            admitted = self._routed_again(call, admitted)
        raise ModelNotFoundError(f"there is no model '{admitted.model.name}'")

    def _routed_again(self, call: Call, admitted: Admit) -> Admit:
        """Where a call goes whose target is no more. Raises ModelNotFoundError."""
        caller, name = admitted.caller, admitted.model.name
        facts = CallFacts(name, call.asked_version, 0, call.started_s, time.time(), call.metadata)
        route = self._policy.find(caller, facts, self._desk.draw())
        if isinstance(route, Refuse):
            raise error_of(route)
        return Admit(caller, route.model, route.version, route.rule)

    def _leave(self, call: Call, error: MeshError | WorkerStatusError) -> None:
        """Note that a target failed the call, and give back what was taken of its own limits."""
        if call.endpoint:
            call.failed.append((call.admitted, error.code))
            call.endpoint = ""
        now_s = asyncio.get_running_loop().time()
        for grant in call.grants:
            call.held -= grant.leave_model(now_s)

    async def _grant(self, call: Call, admitted: Admit, facts: RequestFacts) -> None:
        """Take from every limit of the call what it does not hold yet. Raises QuotaError."""
        tenant = admitted.caller.tenant
        cost = wish = cost_of(facts, tenant, admitted.model)
        rules = self._policy.rules_of(admitted.caller, admitted.model)
        rules = tuple(rule for rule in rules if rule.name not in call.held) if call.held else rules
        if rules:
            grant = await self._acquired(rules, cost)
            if isinstance(grant, Refuse):
                call.refused_by = grant.standings
                raise error_of(grant)
            call.grants.append(grant)
            call.held.update(rule.name for rule in rules)
            if grant.token_total is not None:
                cost = Cost(cost.prompt_tokens, grant.completion_tokens)
        call.cost = cost
        if facts.is_generate and (call.token_total is not None or has_defaults(tenant)):
            call.defaults = defaults_for_worker(tenant, wish, facts.answers)

    async def _acquired(self, rules: tuple[LimitRule, ...], cost: Cost) -> Grant | Refuse:
        now_s = asyncio.get_running_loop().time()
        grant = self._limiter.try_acquire(rules, cost, now_s)
        return grant if grant is not None else await self._limiter.acquire(rules, cost, now_s)

    @contextlib.asynccontextmanager
    async def _turn(self, call: Call, admitted: Admit) -> AsyncIterator[None]:
        """Have a turn at the target for the length of a block. Raises OverloadedError."""
        loop = asyncio.get_running_loop()
        queue = self._admissions.of(admitted.model.name, admitted.version)
        tenant = admitted.caller.tenant
        entry = EntryFacts(
            tenant.name,
            tenant.weight,
            priority_of(admitted.caller),
            max(1, call.cost.total),
            None if call.own_deadline is None else call.deadline,
        )
        entered = queue.try_enter(entry, loop.time())
        if queue.is_over:
            self._shadows.cancel_one(admitted.model.name, admitted.version)
        if isinstance(entered, Waiting):
            self._shadows.set_pressure(admitted.model.name, admitted.version)
            entered = await _turn_of(entered, entry)
        if isinstance(entered, Refuse):
            raise error_of(entered)
        call.waited_s += entered.waited_s
        try:
            yield
        finally:
            entered.leave(loop.time())


async def _turn_of(waiting: Waiting, entry: EntryFacts) -> Ticket | Refuse:
    """What becomes of a call in the queue; its wait is a span."""
    with span("queue") as current:
        current.set_attribute("mesh.priority", entry.priority.name.lower())
        outcome = await waiting.turn()
        if isinstance(outcome, Refuse):
            current.set_attribute("error.type", outcome.kind.value)
    return outcome


def _reason(error: MeshError | WorkerStatusError) -> str:
    """The stable reason of a failure; a worker's status without one has that of its code."""
    if isinstance(error, MeshError):
        return error.reason
    return reason_of(error.trailers) or error.code.name
