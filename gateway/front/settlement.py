"""What is told of a call once it ended: to the canary, to whoever bills, and to the statistics.

Owns the record of each admitted call. Its grants and metrics are settled by the desk.
"""

from __future__ import annotations

import time

import grpc

from gateway.call import LONGEST_HOP_S, Call
from gateway.canary.canaries import Canaries
from gateway.methods import INFERENCE_METHODS, TWO_WAY_METHODS
from gateway.model_statistics import ModelStatistics
from gateway.upstream.attempts import MUTE_SHARE
from gateway.usage.metrics import UsageMetrics
from gateway.usage.record import UsageRecord
from gateway.usage.usage_log import UsageLog


class Settlement:
    """Tells of calls that ended."""

    def __init__(
        self,
        canaries: Canaries,
        metrics: UsageMetrics,
        log: UsageLog | None,
        statistics: ModelStatistics,
    ) -> None:
        """log: None = no file of records."""
        self._canaries = canaries
        self._metrics = metrics
        self._log = log
        self._statistics = statistics

    def tell(self, call: Call, code: grpc.StatusCode, duration_s: float) -> None:
        """Tell of one call."""
        if call.admission is None or call.method not in INFERENCE_METHODS:
            return
        record = record_of(call, code, duration_s)
        self._metrics.count(record)
        self._statistics.count(record, call.waited_s, call.cache)
        if self._log is not None:
            self._log.add(record)
        for failed, failed_with in call.failed:
            if failed.model.name != record.model:  # else it is the call's own failure, which is counted
                self._statistics.count_taken_over(failed.model.name, failed.version, duration_s)
            self._canaries.observe(failed.model.name, failed.version, failed_with.name, duration_s, None)
        is_own = call.endpoint and not call.fallback_from and not call.failed
        if is_own and not _ran_out_of_callers_time(call, code, duration_s):
            first_s = None if call.first_token_at_s is None else call.first_token_at_s - call.started_s
            model, version = call.admission.model.name, call.admission.version
            if call.method in TWO_WAY_METHODS:  # whose times are those of the caller's questions
                self._canaries.observe(model, version, code.name, None, None)
            else:
                self._canaries.observe(model, version, code.name, duration_s, first_s)


def _ran_out_of_callers_time(call: Call, code: grpc.StatusCode, duration_s: float) -> bool:
    """Whether a call ended because its caller gave it less time than the model does.

    That says nothing of the version. A deadline near the model's own counts: whoever had that long
    and did not answer is at fault, as is a worker that gives up before the time is over.
    """
    if code is not grpc.StatusCode.DEADLINE_EXCEEDED or call.own_deadline is None:
        return False
    given_s = call.own_deadline - call.started_s
    is_short = given_s < MUTE_SHARE * call.admitted.model.timeout_s
    return is_short and duration_s >= given_s - 2 * LONGEST_HOP_S  # a worker's own word comes a hop earlier


def record_of(call: Call, code: grpc.StatusCode, duration_s: float) -> UsageRecord:
    """What an admitted call used: the worker's counts, else what reached the caller."""
    decided, usage = call.admitted, call.usage
    if usage is not None:
        tokens = usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens
    else:
        tokens = call.prompt_tokens or 0, call.delivered_tokens, 0
    return UsageRecord(
        time.time(),
        call.request_id,
        decided.caller.tenant.name,
        decided.caller.key_id,
        decided.model.name,
        decided.version,
        call.method,
        *tokens,
        call.cache == "hit",
        duration_s,
        code.name,
    )
