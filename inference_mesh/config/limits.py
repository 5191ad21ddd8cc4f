"""Limits as they are written in a file: of a key, a tenant, or a model.

Owns the schema. What a limit does to a call is the gateway's policy.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

PERIODS_S = {"second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86_400.0}

WhenGone = Literal["refuse", "share"]


class TokenBudgetSpec(BaseModel):
    """Tokens, of prompts and answers together, that may be used in one window of time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    amount: int = Field(ge=1, le=10**12, description="Tokens of prompt and answer together.")
    per: Literal["second", "minute", "hour", "day"] = Field(
        "minute", description="Length of a window; windows follow each other without a gap."
    )

    @property
    def period_s(self) -> float:
        """Length of a window in seconds."""
        return PERIODS_S[self.per]


class LimitsSpec(BaseModel):
    """What a key, tenant or model may use. What is absent has no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests_per_second: Annotated[float, Field(gt=0, le=1e6)] | None = Field(
        None, description="Sustained rate of requests."
    )
    burst: int = Field(10, ge=1, le=1_000_000, description="Requests that may come at once.")
    concurrency: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        None, description="Calls at the same time."
    )
    tokens: TokenBudgetSpec | None = Field(None, description="Token budget.")
    when_redis_is_gone: WhenGone = Field(
        "share",
        description="With shared limits, while Redis cannot be asked: refuse what no lease covers, or go on "
        "with the limit divided by the number of gateways.",
    )

    @model_validator(mode="after")
    def _burst_needs_a_rate(self) -> LimitsSpec:
        if "burst" in self.model_fields_set and self.requests_per_second is None:
            raise ValueError("burst needs requests_per_second")
        return self
