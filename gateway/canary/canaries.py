"""The canaries of the registry: who gets how much, and whether they go on.

Owns the samples of this gateway and the loop in which canaries are reported, followed and
judged. What a verdict rests on is the policy's; where the progress is kept is the store's. While
the store cannot be asked, every canary stays where it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable

from gateway.canary.canary_store import CanaryKey, CanaryStore, CanaryStoreError, LocalCanaryStore
from gateway.canary.live_canary import CanaryStatus, LiveCanary
from gateway.canary.metrics import CanaryMetrics
from gateway.policy.routing.canary import CanaryPhase, Progress, Verdict, VerdictKind, judge, moved
from gateway.policy.routing.resolve import CanaryChoice
from gateway.policy.routing.samples import StepSamples, added, result_of
from inference_mesh import telemetry
from inference_mesh.config.models_file import ModelEntry
from inference_mesh.errors import ModelNotFoundError, UnavailableError

log = telemetry.get_logger(__name__)

TICK_S = 0.4
"""How often a canary is reported and followed; another gateway's step is taken within it."""
MOVE_ATTEMPTS = 3


class Canaries:
    """Owns the canaries of one gateway."""

    def __init__(
        self, store: CanaryStore, metrics: CanaryMetrics, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """clock: seconds, monotonic."""
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._live: dict[str, LiveCanary] = {}
        self._retired: list[CanaryKey] = []
        self._has_news = asyncio.Event()
        self._is_up: bool | None = None
        self._one_operator = asyncio.Lock()

    def share_of(self, entry: ModelEntry) -> CanaryChoice | None:
        """What the model's canary gets now; None if it has none."""
        live = self._live.get(entry.name)
        return live.choice if live is not None else None

    def observe(
        self, model: str, version: str, code: str, duration_s: float | None, first_token_s: float | None
    ) -> None:
        """Count a call that a worker answered or failed.

        code: the name of the gRPC code that it ended with; those that speak of the caller count
        for nothing. duration_s: None where the caller chooses it. first_token_s: time to the first
        message of a stream; None for others.
        """
        live = self._live.get(model)
        if live is None:
            return
        result = result_of(code)
        if result is not None:
            live.note(version, result, duration_s, first_token_s)

    def replace(self, entries: Iterable[ModelEntry]) -> None:
        """Have the canaries of these models; one whose spec did not change goes on where it is."""
        wanted = {entry.name: entry for entry in entries if entry.canary is not None}
        for name, live in tuple(self._live.items()):
            entry = wanted.get(name)
            if entry is None or entry.canary != live.spec:
                self._retired.append(live.key)
                self._metrics.forget(name)
                del self._live[name]
        for name, entry in wanted.items():
            if name in self._live:
                self._live[name].entry = entry
            elif entry.canary is not None:
                self._live[name] = LiveCanary(entry, entry.canary, self._metrics)
        self._has_news.set()

    async def run(self) -> None:
        """Report, follow and judge until cancelled; then let go of the store."""
        try:
            while True:
                self._has_news.clear()
                await self.tick()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S):
                        await self._has_news.wait()
        finally:
            await self._store.close()

    async def tick(self) -> None:
        """One round of all canaries. A store that fails ends it; the next round begins anew."""
        try:
            while self._retired:
                await self._store.forget(self._retired[-1])
                self._retired.pop()
            for live in tuple(self._live.values()):
                await self._round(live)
                await asyncio.sleep(
                    0
                )  # a store in memory never waits, and calls must not wait for many canaries
        except CanaryStoreError as error:
            self._set_up(False, str(error))
        else:
            self._set_up(True, "")

    async def status(self) -> tuple[CanaryStatus, ...]:
        """Every canary, sorted by model; with this gateway's samples only while the store is gone."""
        found: list[CanaryStatus] = []
        is_up = True
        async with self._one_operator:
            for live in sorted(self._live.values(), key=lambda live: live.entry.name):
                samples = await self._samples_of(live) if is_up else None
                is_up = samples is not None
                found.append(live.status(samples, self._clock(), is_shared=self._store.is_shared))
        return tuple(found)

    async def promote(self, model: str) -> CanaryStatus:
        """Give the canary all traffic. Raises ModelNotFoundError, UnavailableError."""
        async with self._one_operator:
            return await self._decide(model, Verdict(VerdictKind.PROMOTE, "promoted by an operator"))

    async def abort(self, model: str) -> CanaryStatus:
        """Give the canary no more traffic. Raises ModelNotFoundError, UnavailableError."""
        async with self._one_operator:
            return await self._decide(model, Verdict(VerdictKind.ROLL_BACK, "aborted by an operator"))

    async def _round(self, live: LiveCanary) -> None:
        progress, is_judge = await self._followed(live)
        if not is_judge or progress.phase is not CanaryPhase.RUNNING:
            return
        samples = added(await self._store.samples(live.key, progress.step))
        age_s = live.step_age_s(self._clock())
        verdict = judge(live.spec, progress.step, age_s, samples.canary, samples.stable)
        if verdict.kind is not VerdictKind.STAY:
            await self._store.move(live.key, progress.revision, moved(progress, verdict))
            await self._followed(live)

    async def _followed(self, live: LiveCanary) -> tuple[Progress, bool]:
        """How far the canary is, now also here, and whether this gateway judges it."""
        stored = await self._store.report(live.key, live.report(self._clock()))
        if self._live.get(live.key.model) is live and live.follow(stored, self._clock()):
            log.info(
                "canary",
                model=live.key.model,
                version=live.spec.version,
                phase=stored.progress.phase.value,
                step=stored.progress.step,
                weight=live.choice.weight,
                reason=stored.progress.reason,
            )
        return stored.progress, stored.is_judge

    async def _samples_of(self, live: LiveCanary) -> StepSamples | None:
        """What all gateways saw of the step; None if the store cannot be asked."""
        try:
            progress, _ = await self._followed(live)
            return added(await self._store.samples(live.key, progress.step))
        except CanaryStoreError:
            return None

    async def _decide(self, model: str, verdict: Verdict) -> CanaryStatus:
        live = self._live.get(model)
        if live is None:
            raise ModelNotFoundError(f"there is no canary of a model '{model[:64]}'")
        try:
            for _ in range(MOVE_ATTEMPTS):
                progress, _ = await self._followed(live)
                wanted = moved(progress, verdict)
                if wanted.phase is progress.phase:
                    samples = await self._samples_of(live)
                    return live.status(samples, self._clock(), is_shared=self._store.is_shared)
                await self._store.move(live.key, progress.revision, wanted)
        except CanaryStoreError:
            pass
        raise UnavailableError("the canary's state cannot be changed now", retry_after_s=1.0)

    def _set_up(self, is_up: bool, reason: str) -> None:
        if is_up is self._is_up:
            return
        was_up, self._is_up = self._is_up, is_up
        self._metrics.store_up.set(is_up)
        if is_up and was_up is False:
            log.info("canaries go on")
        if not is_up:
            log.warning("canaries stand still: their store cannot be asked", reason=reason)


def local_canaries(metrics: CanaryMetrics, clock: Callable[[], float] = time.monotonic) -> Canaries:
    """Canaries that this gateway keeps to itself."""
    return Canaries(LocalCanaryStore(clock), metrics, clock=clock)
