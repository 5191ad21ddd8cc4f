"""A canary's status as AdminService answers it."""

from __future__ import annotations

from gateway.canary.live_canary import CanaryStatus
from gateway.policy.routing.canary import CanaryPhase
from gateway.policy.routing.samples import SampleStats
from inference_mesh.v1 import admin_pb2

PHASES = {
    CanaryPhase.RUNNING: admin_pb2.CANARY_PHASE_RUNNING,
    CanaryPhase.PROMOTED: admin_pb2.CANARY_PHASE_PROMOTED,
    CanaryPhase.ROLLED_BACK: admin_pb2.CANARY_PHASE_ROLLED_BACK,
}


def canary_message(status: CanaryStatus) -> admin_pb2.Canary:
    """The message of one canary."""
    return admin_pb2.Canary(
        model=status.model,
        version=status.version,
        stable_version=status.stable_version,
        phase=PHASES[status.phase],
        step=status.step,
        steps=status.steps,
        weight=status.weight,
        step_age_s=status.step_age_s,
        canary=_sample(status.samples.canary),
        stable=_sample(status.samples.stable),
        reason=status.reason,
        shared=status.is_shared,
    )


def _sample(stats: SampleStats) -> admin_pb2.CanarySample:
    return admin_pb2.CanarySample(
        requests=stats.requests,
        errors=stats.errors,
        p99_s=stats.durations.quantile(0.99) or 0.0,
        first_token_s=stats.first_tokens.quantile(0.5) or 0.0,
    )
