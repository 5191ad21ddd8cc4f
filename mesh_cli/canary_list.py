"""The canaries of a running gateway, asked for, steered and shown."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from rich.markup import escape
from rich.table import Table

from inference_mesh.channels import open_channel
from inference_mesh.error_status import error_from_rpc
from inference_mesh.metadata import API_KEY
from inference_mesh.v1 import admin_pb2, admin_pb2_grpc
from mesh_cli.target import Access

TIMEOUT_S = 10.0

PHASES = {
    admin_pb2.CANARY_PHASE_RUNNING: "running",
    admin_pb2.CANARY_PHASE_PROMOTED: "promoted",
    admin_pb2.CANARY_PHASE_ROLLED_BACK: "rolled back",
}
STYLES = {
    admin_pb2.CANARY_PHASE_RUNNING: "yellow",
    admin_pb2.CANARY_PHASE_PROMOTED: "green",
    admin_pb2.CANARY_PHASE_ROLLED_BACK: "red",
}


async def fetch_canaries(access: Access) -> list[admin_pb2.Canary]:
    """Every canary, sorted by model. Raises MeshError."""
    async with _admin(access) as stub:
        answer = await stub.ListCanaries(admin_pb2.ListCanariesRequest(), **_options(access))
        return list(answer.canaries)


async def promote_canary(access: Access, model: str) -> admin_pb2.Canary:
    """The canary, which now takes all traffic. Raises MeshError."""
    async with _admin(access) as stub:
        request = admin_pb2.PromoteCanaryRequest(model=model)
        return (await stub.PromoteCanary(request, **_options(access))).canary


async def abort_canary(access: Access, model: str) -> admin_pb2.Canary:
    """The canary, which now takes no traffic. Raises MeshError."""
    async with _admin(access) as stub:
        request = admin_pb2.AbortCanaryRequest(model=model)
        return (await stub.AbortCanary(request, **_options(access))).canary


def canary_json(canary: admin_pb2.Canary) -> dict[str, object]:
    """One canary for scripts."""
    return {
        "model": canary.model,
        "version": canary.version,
        "stable_version": canary.stable_version,
        "phase": PHASES.get(canary.phase, "unknown").replace(" ", "_"),
        "step": canary.step,
        "steps": canary.steps,
        "weight": canary.weight,
        "step_age_s": canary.step_age_s,
        "canary": _sample_json(canary.canary),
        "stable": _sample_json(canary.stable),
        "reason": canary.reason,
        "shared": canary.shared,
    }


def canaries_table(canaries: Sequence[admin_pb2.Canary]) -> Table:
    """The canaries for a person, two rows each: the canary, and what it is compared with."""
    table = Table(box=None, pad_edge=False)
    headings = ("MODEL", "VERSION", "PHASE", "STEP", "SHARE", "CALLS", "ERRORS", "P99", "TTFT", "REASON")
    for heading in headings:
        table.add_column(heading)
    for canary in canaries:
        phase = f"[{STYLES.get(canary.phase, 'dim')}]{PHASES.get(canary.phase, 'unknown')}[/]"
        step = f"{canary.step + 1}/{canary.steps}"
        share, rest = f"{canary.weight:g} %", f"{100 - canary.weight:g} %"
        reason = escape(canary.reason)
        table.add_row(canary.model, canary.version, phase, step, share, *_sample_cells(canary.canary), reason)
        table.add_row("", canary.stable_version, "", "", rest, *_sample_cells(canary.stable), "")
    return table


@contextlib.asynccontextmanager
async def _admin(access: Access) -> AsyncIterator[admin_pb2_grpc.AdminServiceAsyncStub]:
    """The service of a gateway for the length of a block; a call that fails in it is a MeshError."""
    async with open_channel(access.target, tls=access.tls) as channel:
        stub: admin_pb2_grpc.AdminServiceAsyncStub = admin_pb2_grpc.AdminServiceStub(channel)
        try:
            yield stub
        except grpc.aio.AioRpcError as error:
            raise error_from_rpc(error) from None


def _options(access: Access) -> dict[str, Any]:
    return {"metadata": ((API_KEY, access.api_key),) if access.api_key else (), "timeout": TIMEOUT_S}


def _sample_json(sample: admin_pb2.CanarySample) -> dict[str, object]:
    return {
        "requests": sample.requests,
        "errors": sample.errors,
        "p99_s": sample.p99_s or None,
        "first_token_s": sample.first_token_s or None,
    }


def _sample_cells(sample: admin_pb2.CanarySample) -> tuple[str, str, str, str]:
    return (str(sample.requests), str(sample.errors), _time(sample.p99_s), _time(sample.first_token_s))


def _time(seconds: float) -> str:
    if not seconds:
        return "-"
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
