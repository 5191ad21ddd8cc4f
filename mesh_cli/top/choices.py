"""What a caller of `mesh top` chooses; apart, so that the command line is there without the rest."""

from __future__ import annotations

import enum


class Grouping(enum.StrEnum):
    """What has a row of its own."""

    MODEL = "model"
    REPLICA = "replica"
    TENANT = "tenant"


class SortKey(enum.StrEnum):
    """What the rows are sorted by; all but the name from the largest down."""

    NAME = "name"
    REQUESTS = "requests"
    ERRORS = "errors"
    P50 = "p50"
    P99 = "p99"
    TTFT = "ttft"
    IN_FLIGHT = "in-flight"
    QUEUE = "queue"
    TOKENS = "tokens"
    KV = "kv"
