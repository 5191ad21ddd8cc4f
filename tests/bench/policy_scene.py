"""A gateway's policy with everything on and nothing around it: no transport, no worker.

Owns the parts as `gateway.parts` builds them, the callers and their requests, and the order of
one call's steps as `gateway.front` takes them. What is measured of it is `policy`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import cast

import grpc

from gateway.admission.admission_queue import Ticket
from gateway.admission.admissions import Admissions
from gateway.admission.metrics import AdmissionMetrics
from gateway.call import Call, Context, priority_of
from gateway.canary.canaries import local_canaries
from gateway.canary.metrics import CanaryMetrics
from gateway.forwarded_metadata import Pairs, credential_of
from gateway.front.settlement import Settlement
from gateway.identity.identities import Identities
from gateway.limits.grant import Grant
from gateway.limits.ledger import Ledger
from gateway.limits.limiter import Limiter
from gateway.limits.metrics import LimitMetrics
from gateway.metrics import GatewayMetrics
from gateway.model_statistics import ModelStatistics
from gateway.policy.admission.entry import EntryFacts
from gateway.policy.engine import PolicyEngine
from gateway.policy.facts import Admit, Caller, CallFacts, Cost, Credentials
from gateway.policy.request_cost import cost_of, request_facts
from gateway.policy.routing.affinity import prefix_hash
from gateway.upstream.endpoint_watch import Health, Report
from gateway.upstream.endpoints import Endpoint
from gateway.upstream.metrics import UpstreamMetrics
from gateway.upstream.pool import EndpointPool
from gateway.usage.metrics import UsageMetrics
from gateway.usage.usage_log import UsageLog
from inference_mesh.background import Background
from inference_mesh.config.limits import LimitsSpec, TokenBudgetSpec
from inference_mesh.config.models_file import ModelEntry, parse_models
from inference_mesh.routing_fields import RoutingFields, routing_fields
from inference_mesh.v1 import inference_pb2, payload_pb2

METHOD = "Infer"
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
LEDGER_LIMIT_S = 10.0
SLOTS = 64
MODELS_OF_A_KEY = 5
TENANT_LABELS = 100
NO_CONTEXT = cast("Context", None)  # what is measured never asks for it
USAGE = payload_pb2.Usage(prompt_tokens=140, completion_tokens=60, cached_tokens=100)

KEY_LIMITS = LimitsSpec(
    requests_per_second=20_000,
    burst=20_000,
    concurrency=1000,
    tokens=TokenBudgetSpec(amount=10**9, per="minute"),
)
TENANT_LIMITS = (
    "{requests_per_second: 200000, burst: 200000, concurrency: 10000, "
    "tokens: {amount: 10000000000, per: hour}}"
)
TENANT_MODEL_LIMITS = "{tokens: {amount: 10000000000, per: day}}"
MODEL_LIMITS = "{concurrency: 100000}"

Lap = Callable[[str], None]
STEPS = ("identify", "admit", "cost", "limits", "queue", "pick", "texts", "leave", "settle", "usage")


def no_lap(step: str) -> None:
    """Measures nothing."""


@dataclasses.dataclass(frozen=True)
class SceneSize:
    """How much is loaded. replicas: of each of a model's two versions."""

    keys: int
    tenants: int
    models: int
    replicas: int


@dataclasses.dataclass(frozen=True, slots=True)
class Asker:
    """One key that asks one model."""

    metadata: Pairs
    message: bytes
    fields: RoutingFields


class QuietEndpoint(Endpoint):
    """A replica that is healthy from the beginning and has no connection."""

    async def watch(self, report: Report) -> None:
        """Healthy, for ever."""
        report(Health.HEALTHY)
        await asyncio.Event().wait()

    async def describe(self) -> None:
        """It holds so many calls at once."""
        self.slots = SLOTS

    async def close(self) -> None:
        """There is nothing to close."""


class Scene:
    """Owns the parts; `call` takes one call through them."""

    def __init__(self, folder: Path, size: SceneSize, ledger: Ledger | None) -> None:
        """Writes the files that an operator would. ledger: None = limits of this process."""
        self.size = size
        self._loop = asyncio.get_running_loop()
        self._rng = random.Random(0)
        self._background = Background()
        self._entries = parse_models(_models_text(size)).models
        keys, tenants = folder / "keys.yaml", folder / "tenants.yaml"
        keys.write_text(_keys_text(size))
        tenants.write_text(_tenants_text(size))
        self.metrics = metrics = GatewayMetrics()
        registry = metrics.registry
        self._upstream_metrics = UpstreamMetrics(registry)
        self.identities = Identities(keys, tenants, requires_key=True, metrics=metrics)
        self.limiter = Limiter(LimitMetrics(registry), ledger, replicas=2, clock=self._loop.time)
        self.admissions = Admissions(AdmissionMetrics(registry), self._rng)
        self.canaries = local_canaries(CanaryMetrics(registry))
        self.policy = PolicyEngine(
            max_message_bytes=MAX_MESSAGE_BYTES,
            has_ready=self._has_ready,
            canary_of=self.canaries.share_of,
        )
        usage_metrics = UsageMetrics(registry, TENANT_LABELS)
        self._usage_log = UsageLog(folder / "usage.jsonl", usage_metrics)
        self.settlement = Settlement(self.canaries, usage_metrics, self._usage_log, ModelStatistics())
        self._pools: dict[tuple[str, str], EndpointPool[QuietEndpoint]] = {}
        self._limited: dict[str, Caller] = {}
        self._messages = [_message(number) for number in range(size.models)]
        self.waits_for_ledger = 0

    def asker(self, number: int) -> Asker:
        """One key after the other; with each round of all keys the next of five models of a key."""
        key = number % self.size.keys
        return self.asker_of(key, (key + number // self.size.keys % MODELS_OF_A_KEY) % self.size.models)

    def asker_of(self, key: int, model: int) -> Asker:
        """One key that asks one model, both by their numbers."""
        message = self._messages[model]
        metadata = (("authorization", f"Bearer {_plain_key(key)}"), ("user-agent", "bench"))
        return Asker(metadata, message, routing_fields(message))

    async def call(self, asker: Asker, lap: Lap = no_lap) -> None:
        """One call from its arrival to its end, in the order of `front.serving`.

        lap: told of each step that just ended.
        """
        call = Call(METHOD, NO_CONTEXT, asker.metadata, self._loop.time(), None, request_id="bench-request")
        call.caller = self.identify(asker)
        lap("identify")
        admitted = call.admission = self.admit(call.caller, asker)
        lap("admit")
        call.cost, call.beginning = self.cost(admitted, asker)
        lap("cost")
        grant = await self.grant(admitted, call.cost)
        call.grants.append(grant)
        lap("limits")
        ticket = self.enter(admitted, call.cost)
        lap("queue")
        call.endpoint, call.attempts, call.usage = self.pick(admitted, call.beginning).address, 1, USAGE
        lap("pick")
        self.tell_caller(call)
        lap("texts")
        ticket.leave(self._loop.time())
        lap("leave")
        grant.settle(call.used_tokens(grpc.StatusCode.OK), self._loop.time())
        lap("settle")
        self.settlement.tell(call, grpc.StatusCode.OK, 0.05)
        lap("usage")

    def identify(self, asker: Asker) -> Caller:
        """Who calls; with the limits of a key, which a file of 10,000 keys has no room for."""
        found = self.identities.try_identify(Credentials(credential_of(asker.metadata)), time.time())
        if not isinstance(found, Caller):
            raise TypeError(found)
        limited = self._limited.get(found.key_id)
        if limited is None or limited.tenant is not found.tenant:
            limited = self._limited[found.key_id] = dataclasses.replace(found, limits=KEY_LIMITS)
        return limited

    def admit(self, caller: Caller, asker: Asker) -> Admit:
        """Where the call goes."""
        fields = asker.fields
        now_s, size_bytes = self._loop.time(), len(asker.message)
        facts = CallFacts(fields.model, fields.version, size_bytes, now_s, time.time(), asker.metadata)
        decision = self.policy.admit(caller, facts, self._rng.random())
        if not isinstance(decision, Admit):
            raise TypeError(decision)
        return decision

    def cost(self, admitted: Admit, asker: Asker) -> tuple[Cost, bytes | None]:
        """What the call may use, and what its prompt begins with."""
        facts = request_facts(asker.message, asker.fields.payload_start)
        return cost_of(facts, admitted.caller.tenant, admitted.model), facts.beginning

    async def grant(self, admitted: Admit, cost: Cost) -> Grant:
        """Taken from all limits; counts the calls that had to ask the ledger."""
        rules = self.policy.rules_of(admitted.caller, admitted.model)
        now_s = self._loop.time()
        outcome = self.limiter.try_acquire(rules, cost, now_s)
        if outcome is None:
            self.waits_for_ledger += 1
            outcome = await self.limiter.acquire(rules, cost, now_s)
        if not isinstance(outcome, Grant):
            raise TypeError(outcome)
        return outcome

    def enter(self, admitted: Admit, cost: Cost) -> Ticket:
        """The turn at the target."""
        tenant = admitted.caller.tenant
        queue = self.admissions.of(admitted.model.name, admitted.version)
        priority, tokens = priority_of(admitted.caller), max(1, cost.total)
        entry = EntryFacts(tenant.name, tenant.weight, priority, tokens, None)
        ticket = queue.try_enter(entry, self._loop.time())
        if not isinstance(ticket, Ticket):
            raise TypeError(ticket)
        return ticket

    def pick(self, admitted: Admit, beginning: bytes | None) -> QuietEndpoint:
        """The replica, by the beginning of the prompt."""
        pool = self._pools[admitted.model.name, admitted.version]
        hashed = None if beginning is None else prefix_hash(admitted.caller.salt, beginning)
        endpoint = pool.pick((), self._loop.time(), self._rng, hashed)
        if endpoint is None:
            raise TypeError("no replica")
        return endpoint

    def tell_caller(self, call: Call) -> tuple[Pairs, Pairs]:
        """How the limits stand and what was decided, as texts."""
        return call.initial_metadata(), call.decision_trailers()

    @contextlib.asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Run what runs in the background for the length of a block."""
        await self._background.open()
        try:
            await self._start()
            yield
        finally:
            await self._background.close()
            await self._usage_log.close()

    async def _start(self) -> None:
        self.identities.start(self._background)
        self._background.spawn("limits", self.limiter.run)
        self._usage_log.open()
        for entry in self._entries:
            for variant in entry.variants:
                await self._open_pool(entry, variant.version)
        self.policy.replace_models(self._entries)
        self.canaries.replace(self._entries)
        await self.canaries.tick()
        self.admissions.keep_only(self._entries)
        for (model, version), pool in self._pools.items():
            self.admissions.resize(model, version, pool.capacity)
        if not await self.limiter.wait_until_known(LEDGER_LIMIT_S):
            raise TimeoutError("the ledger did not answer")

    async def _open_pool(self, entry: ModelEntry, version: str) -> None:
        pool = EndpointPool(
            entry.name,
            lambda address: QuietEndpoint(entry.name, address),
            self._background,
            self._upstream_metrics,
            lambda: None,
        )
        self._pools[entry.name, version] = pool
        await pool.set_addresses(f"{version}-{number}:50051" for number in range(self.size.replicas))

    def _has_ready(self, model: str, version: str) -> bool:
        """As `fleet` tells it."""
        pool = self._pools.get((model, version))
        return pool is not None and bool(pool.ready)


def _plain_key(number: int) -> str:
    return f"mesh_{_key_id(number)}_{hashlib.sha256(b'%d' % number).hexdigest()[:43]}"


def _key_id(number: int) -> str:
    return f"k{number:07d}"


def _model_name(number: int) -> str:
    return f"chat-{number:04d}"


def _keys_text(size: SceneSize) -> str:
    """Without a byte too many: a key file may have 1 MiB."""
    hashes = (hashlib.sha256(_plain_key(number).encode()).hexdigest() for number in range(size.keys))
    keys = (
        f"{{id: {_key_id(number)},sha256: '{digest}',tenant: t{number % size.tenants:03d}}}"
        for number, digest in enumerate(hashes)
    )
    return "keys: [\n" + ",\n".join(keys) + "]\n"


def _tenants_text(size: SceneSize) -> str:
    """Every tenant may use every model, by a pattern, and has a budget of its own for each of 16."""
    lines = ["version: 1", "tenants:"]
    for number in range(size.tenants):
        lines.append(f"- name: t{number:03d}")
        lines.append('  models: ["embed-*", "chat-*"]')
        lines.append(f"  limits: {TENANT_LIMITS}")
        lines.append("  model_limits:")
        lines += [f"    {_model_name(one)}: {TENANT_MODEL_LIMITS}" for one in range(min(16, size.models))]
    return "\n".join(lines) + "\n"


def _models_text(size: SceneSize) -> str:
    lines = []
    for number in range(size.models):
        lines += [
            f"- name: {_model_name(number)}",
            f"  aliases: [{_alias(number)}]",
            f"  limits: {MODEL_LIMITS}",
            "  max_tokens: 4096",
            "  versions:",
            f"  - {{version: v1, weight: 1, service: stable-{number}}}",
            f"  - {{version: v2, service: canary-{number}}}",
            "  canary: {version: v2, sticky: key, steps: [{weight: 25, for_s: 86400}]}",
        ]
    return "\n".join(lines) + "\n"


def _alias(number: int) -> str:
    return f"assistant-{number:04d}"


def _message(number: int) -> bytes:
    """A conversation of three messages for a model, by its alias."""
    chat = payload_pb2.Chat(
        messages=[
            payload_pb2.ChatMessage(role="system", content="You are a helpful assistant. " * 8),
            payload_pb2.ChatMessage(role="user", content=f"Question {number}: why is the sky blue? " * 8),
            payload_pb2.ChatMessage(role="assistant", content="Because of scattering. " * 4),
        ]
    )
    generate = payload_pb2.Generate(chat=chat, max_tokens=256)
    payload = payload_pb2.Payload(generate=generate)
    return inference_pb2.InferRequest(model=_alias(number), payload=payload).SerializeToString()
