"""tenants.yaml: who the callers are, what they may use, and whose tokens are believed.

Owns the schema of tenants and of token issuers. API keys, which name a tenant, stand in a file
of their own, because they come from a Secret.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from inference_mesh.config.errors import ConfigError, Problem
from inference_mesh.config.limits import LimitsSpec
from inference_mesh.config.yaml_document import Path, YamlDocument

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
"""What an issuer may sign with: public keys only, so that nobody can sign with what is published."""

MODEL_PATTERN = re.compile(r"[a-z0-9.*-]{1,64}")
TENANT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@-]{0,63}")

TenantName = Annotated[str, Field(pattern=rf"^{TENANT_NAME.pattern}$")]
Scope = Literal["infer", "admin"]


class GenerateDefaults(BaseModel):
    """What a tenant's generate requests take where they say nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_tokens: int | None = Field(None, ge=1, le=10_000_000, description="Longest answer in tokens.")
    temperature: float | None = Field(None, ge=0, le=2, description="0 = greedy.")
    top_k: int | None = Field(None, ge=0, le=1_000_000, description="Only the k most probable; 0 = all.")
    top_p: float | None = Field(None, gt=0, le=1, description="Only the most probable that sum to p.")
    min_p: float | None = Field(None, ge=0, le=1, description="Only those p times as probable as the best.")


class Tenant(BaseModel):
    """One tenant."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: TenantName = Field(description="Unique name; keys and tokens are mapped to it.")
    models: tuple[str, ...] = Field(
        ("*",), description="Models it may use, by name; '*' stands for any characters. Filters lists too."
    )
    priority: Literal["high", "normal", "bulk"] = Field(
        "normal", description="Class in which its calls wait; a class waits for the ones before it."
    )
    weight: float = Field(1.0, gt=0, le=1000, description="Its share among the waiting tenants of its class.")
    limits: LimitsSpec = Field(default_factory=LimitsSpec, description="Limits of all its calls together.")
    model_limits: dict[str, LimitsSpec] = Field(
        default_factory=dict, description="Further limits for single models, by name."
    )
    defaults: GenerateDefaults = Field(
        default_factory=GenerateDefaults, description="Parameters of its generate requests."
    )
    certificates: tuple[str, ...] = Field(
        (),
        description="Subject alternative names of client certificates that are this tenant, "
        "e.g. spiffe://cluster/ns/jobs or client.example.",
    )

    @field_validator("models")
    @classmethod
    def _models_are_patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            if not MODEL_PATTERN.fullmatch(pattern):
                raise ValueError(f"'{pattern[:64]}' is not the name of a model, nor a pattern with '*'")
        return value


class Issuer(BaseModel):
    """Who signs tokens (JWT) that are believed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    issuer: str = Field(min_length=1, max_length=512, description="The token's `iss`, exactly.")
    audience: Annotated[str, Field(min_length=1, max_length=512)] = Field(
        description="What the token's `aud` must have."
    )
    algorithms: tuple[Literal[ALGORITHMS], ...] = Field(  # type: ignore[valid-type]
        ("RS256", "ES256"), min_length=1, description="Allowed signatures."
    )
    jwks_file: str | None = Field(
        None, description="File with its public keys (JWKS), relative to this file; read when it changes."
    )
    jwks_url: str | None = Field(None, description="https:// or loopback http:// address of its JWKS.")
    tenant_claim: str = Field(
        "tenant", min_length=1, max_length=128, description="Claim that names the tenant."
    )
    tenants: dict[str, TenantName] = Field(
        default_factory=dict,
        description="Tenant of each value of the claim; where there are none, the value is the tenant.",
    )
    scopes_claim: str | None = Field(
        None, description="Claim with its scopes, a list or a text with blanks; absent = infer only."
    )
    leeway_s: float = Field(30.0, ge=0, le=60, description="How far clocks may be apart.")

    @model_validator(mode="after")
    def _one_source_of_keys(self) -> Issuer:
        if (self.jwks_file is None) == (self.jwks_url is None):
            raise ValueError("exactly one of jwks_file and jwks_url is required")
        if self.jwks_url is not None and not _is_safe(self.jwks_url):
            raise ValueError("jwks_url must be https://, or http:// on loopback")
        return self


class TenantsFile(BaseModel):
    """All tenants and issuers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    tenants: tuple[Tenant, ...] = ()
    issuers: tuple[Issuer, ...] = ()


def parse_tenants(text: str, *, source: str = "tenants.yaml") -> TenantsFile:
    """The tenants and issuers of a file's text.

    Raises ConfigError with every problem: not YAML, unknown keys, values out of range, a
    tenant, certificate or issuer that stands twice.
    """
    document = YamlDocument(text, source)
    if document.value is None:
        return TenantsFile()
    if not isinstance(document.value, dict):
        raise ConfigError(source, (Problem("", "must be {version: 1, tenants: [...], issuers: [...]}"),))
    parsed = document.validated(TenantsFile, document.value)
    problems = [document.problem(path, message) for path, message in _twice(parsed)]
    if problems:
        raise ConfigError(source, tuple(problems))
    return parsed


def _twice(parsed: TenantsFile) -> list[tuple[Path, str]]:
    found: list[tuple[Path, str]] = []
    seen: set[tuple[str, str]] = set()

    def note(kind: str, value: str, path: Path) -> None:
        if (kind, value) in seen:
            found.append((path, f"'{value}' stands twice"))
        seen.add((kind, value))

    for index, tenant in enumerate(parsed.tenants):
        note("tenant", tenant.name, ("tenants", index, "name"))
        for position, name in enumerate(tenant.certificates):
            note("certificate", name, ("tenants", index, "certificates", position))
    for index, issuer in enumerate(parsed.issuers):
        note("issuer", issuer.issuer, ("issuers", index, "issuer"))
    return found


def _is_safe(url: str) -> bool:
    """Whether nobody on the way can change what the address answers."""
    loopback = re.match(r"http://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?(/|$)", url)
    return url.startswith("https://") or loopback is not None
