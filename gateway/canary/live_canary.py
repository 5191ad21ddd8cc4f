"""One canary as one gateway has it: how far it is as far as is known, and the gateway's own samples."""

from __future__ import annotations

import dataclasses
import hashlib

from gateway.canary.canary_store import CanaryKey, CanaryReport, StoredCanary
from gateway.canary.metrics import CanaryMetrics
from gateway.policy.routing.canary import CanaryPhase, Progress, choice_of, judge
from gateway.policy.routing.resolve import stable_weights
from gateway.policy.routing.samples import CallResult, LatestSamples, Side, StepSamples
from inference_mesh.config.model_traffic import CanarySpec
from inference_mesh.config.models_file import ModelEntry

WINDOW_IN_MIN_SAMPLES = 10
"""The judge looks at the latest calls: at least so many times `min_samples` once there are as many."""


@dataclasses.dataclass(frozen=True, slots=True)
class CanaryStatus:
    """A canary for operators. samples: of all gateways, if `is_shared`; of the latest calls of the step."""

    model: str
    version: str
    stable_version: str
    phase: CanaryPhase
    step: int
    steps: int
    weight: float
    step_age_s: float
    samples: StepSamples
    reason: str
    is_shared: bool


class LiveCanary:
    """Owns what this gateway knows of one canary."""

    def __init__(self, entry: ModelEntry, spec: CanarySpec, metrics: CanaryMetrics) -> None:
        """entry: of the registry; its canary is `spec`."""
        self.entry = entry
        self.spec = spec
        self.key = CanaryKey(entry.name, _fingerprint(spec))
        self.progress: Progress | None = None
        self.choice = choice_of(spec, None)
        self._metrics = metrics
        self._step_since_s = 0.0
        self._samples = self._new_samples()
        metrics.show(entry.name, self.choice.weight, None)

    def note(
        self, version: str, result: CallResult, duration_s: float | None, first_token_s: float | None
    ) -> None:
        """Count a call that ended. A canary that is decided is judged no more, so its samples stay."""
        side = Side.CANARY if version == self.spec.version else Side.STABLE
        self._metrics.requests.add((self.entry.name, side.value, result.value))
        if self.progress is not None and self.progress.phase is CanaryPhase.RUNNING:
            self._samples.note(side, result, duration_s, first_token_s)

    def report(self, now_s: float) -> CanaryReport:
        """What this gateway tells the store."""
        return CanaryReport(self.progress, self.step_age_s(now_s), self._samples.sum)

    def step_age_s(self, now_s: float) -> float:
        """Seconds since the step began; 0 if that is not known."""
        return max(0.0, now_s - self._step_since_s) if self.progress is not None else 0.0

    def follow(self, stored: StoredCanary, now_s: float) -> bool:
        """Go where the store says; whether that is elsewhere. An overtaken answer counts for nothing."""
        before = self.progress
        if before is not None and stored.progress.revision < before.revision:
            return False
        self.progress = stored.progress
        self._step_since_s = now_s - stored.step_age_s
        if before == stored.progress:
            return False
        if before is None or before.step != stored.progress.step:
            self._samples = self._new_samples()
        self.choice = choice_of(self.spec, stored.progress)
        self._metrics.show(self.entry.name, self.choice.weight, stored.progress.phase)
        return True

    def status(self, samples: StepSamples | None, now_s: float, *, is_shared: bool) -> CanaryStatus:
        """The canary for operators. samples: of all gateways; None = only this one's are known."""
        stable = stable_weights(self.entry)
        progress = self.progress or Progress(reason="not known yet: Redis has not answered")
        seen, age_s = samples or self._samples.sum, self.step_age_s(now_s)
        reason = progress.reason
        if self.progress is not None and progress.phase is CanaryPhase.RUNNING:
            reason = judge(self.spec, progress.step, age_s, seen.canary, seen.stable).reason
        return CanaryStatus(
            model=self.entry.name,
            version=self.spec.version,
            stable_version=max(stable, key=lambda version: stable[version]),
            phase=progress.phase,
            step=progress.step,
            steps=len(self.spec.steps),
            weight=self.choice.weight,
            step_age_s=age_s,
            samples=seen,
            reason=reason,
            is_shared=is_shared,
        )

    def _new_samples(self) -> LatestSamples:
        return LatestSamples(WINDOW_IN_MIN_SAMPLES * self.spec.guards.min_samples)


def _fingerprint(spec: CanarySpec) -> str:
    return hashlib.sha256(spec.model_dump_json().encode()).hexdigest()[:16]
