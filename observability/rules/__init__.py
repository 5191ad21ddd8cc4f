"""The rules of Prometheus: what is computed beforehand, and what somebody is told of."""

from observability.rules.rule_files import rule_files
from observability.rules.time_scale import REAL_TIME, TimeScale

__all__ = ["REAL_TIME", "TimeScale", "rule_files"]
