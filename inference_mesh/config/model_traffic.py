"""How a model's traffic is steered: the optional parts of an entry of models.yaml.

Owns the schemas of versions, canary, shadow, time limits, queue and cache. What depends on
several entries is checked in `models_file`.
"""

from __future__ import annotations

import itertools
import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(?P<port>\d{1,5}))?")
HEADER_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")

VersionName = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._+-]+$")]


class Replicas(BaseModel):
    """Where replicas answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    service: str | None = Field(
        None, description="host[:port] of the service; a headless one resolves to its pods."
    )
    endpoints: tuple[str, ...] = Field((), description="host:port of each replica, instead of a service.")

    @field_validator("service")
    @classmethod
    def _service_is_host_port(cls, value: str | None) -> str | None:
        if value is not None:
            host_port(value)
        return value

    @field_validator("endpoints")
    @classmethod
    def _endpoints_are_host_port(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for endpoint in value:
            if host_port(endpoint)[1] is None:
                raise ValueError(f"endpoint '{endpoint}' must be host:port")
        return value


class VersionEntry(Replicas):
    """One of several versions that a model has at the same time."""

    version: VersionName = Field(description="Name of the version: A-Z a-z 0-9 . _ + -")
    weight: float = Field(
        0.0, ge=0, le=1e6, description="Share of the traffic, relative to the other versions' weights."
    )

    @model_validator(mode="after")
    def _one_source_of_endpoints(self) -> VersionEntry:
        if (self.service is None) == (not self.endpoints):
            raise ValueError("exactly one of service and endpoints is required")
        return self


class CanaryStep(BaseModel):
    """One step on the way of a canary."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(gt=0, le=100, description="Percent of the traffic that the canary gets.")
    for_s: float = Field(300.0, gt=0, le=30 * 86_400, description="Shortest time of the step in seconds.")


class CanaryGuards(BaseModel):
    """What a canary must keep, or it is rolled back."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_samples: int = Field(
        50, ge=1, le=10**7, description="Calls of the canary before it is judged or promoted."
    )
    error_ratio: float = Field(
        0.02, ge=0, le=1, description="Most that its share of failed calls may be over the stable version's."
    )
    p99_ratio: float = Field(
        2.0, gt=0, le=1000, description="Most that its 99th percentile may be, in the stable version's."
    )
    first_token_ratio: float = Field(
        2.0, gt=0, le=1000, description="Most that its time to the first token may be, likewise."
    )


class CanarySpec(BaseModel):
    """A version that gets traffic step by step, and judges itself."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: VersionName = Field(description="The version that is tried; one of `versions`.")
    steps: tuple[CanaryStep, ...] = Field(
        (CanaryStep(weight=5), CanaryStep(weight=25), CanaryStep(weight=50)),
        min_length=1,
        max_length=20,
        description="Shares that it gets, one after the other; after the last it gets all.",
    )
    guards: CanaryGuards = Field(default_factory=CanaryGuards, description="When it is rolled back.")
    sticky: str = Field(
        "none",
        description="Who stays with one version: none, key (each API key), tenant, or header:NAME "
        "(each value of that request header).",
    )

    @field_validator("sticky")
    @classmethod
    def _sticky_is_known(cls, value: str) -> str:
        kind, _, name = value.partition(":")
        if value in ("none", "key", "tenant") or (kind == "header" and HEADER_NAME.fullmatch(name)):
            return value
        raise ValueError("must be none, key, tenant, or header:NAME with a lower-case header name")

    @field_validator("steps")
    @classmethod
    def _steps_rise(cls, value: tuple[CanaryStep, ...]) -> tuple[CanaryStep, ...]:
        if any(one.weight >= two.weight for one, two in itertools.pairwise(value)):
            raise ValueError("weights must rise from step to step")
        return value


class ShadowSpec(BaseModel):
    """Another model or version that gets copies of the traffic; its answers are compared."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(None, description="The model that gets copies; absent = this one.")
    version: str = Field("", max_length=64, description="The version that gets copies.")
    share: float = Field(0.1, gt=0, le=1, description="Share of the calls that is copied.")
    max_in_flight: int = Field(4, ge=1, le=1000, description="Copies at the same time; more are dropped.")
    report_share: float = Field(
        1.0, ge=0, le=1, description="Share of the differences that is kept for the report."
    )

    @model_validator(mode="after")
    def _names_something(self) -> ShadowSpec:
        if self.model is None and not self.version:
            raise ValueError("needs a model or a version")
        return self


class TimeLimits(BaseModel):
    """How long a replica may be silent before it counts as hung."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first_token_s: float = Field(
        60.0, gt=0, le=86_400, description="Longest time to the first message of a stream."
    )
    between_tokens_s: float = Field(
        30.0, gt=0, le=86_400, description="Longest time between two messages of a stream."
    )


class QueueSpec(BaseModel):
    """The calls of a model that wait in the gateway."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    in_flight_per_replica: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="Calls that one replica gets at once; absent = what it says it can hold."
    )
    size: int = Field(256, ge=0, le=100_000, description="Calls that may wait; more are refused.")
    max_wait_s: float = Field(
        30.0, gt=0, le=3600, description="Longest wait of a call, also of one whose deadline is later."
    )


class CacheSpec(BaseModel):
    """Answers that are kept, for embeddings and greedy generation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size_mb: float = Field(64.0, gt=0, le=65_536, description="Memory for the answers, in MiB.")
    ttl_s: float = Field(3600.0, gt=0, le=30 * 86_400, description="How long an answer is kept.")


def host_port(text: str) -> tuple[str, int | None]:
    """Host, and port if there is one. Raises ValueError."""
    match = HOST_PORT.fullmatch(text)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port is not None and not 1 <= port <= 65535):
        raise ValueError(f"'{text[:128]}' must be host or host:port, the port 1 to 65535")
    return match["host"].strip("[]"), port
