"""Callers of a gateway in a test: tenants, one key for each, and what they ask beside inference."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from inference_mesh.config.keys_file import new_key
from inference_mesh.config.tenants_file import Scope
from inference_mesh.v1 import admin_pb2_grpc, policy_pb2, policy_pb2_grpc
from tests.support.gateways import RunningGateway

Credential = tuple[tuple[str, str], ...]

ADMIN: tuple[Scope, ...] = ("admin", "infer")


@dataclasses.dataclass(frozen=True)
class Callers:
    """Files of tenants and keys as settings of a gateway, and each tenant's credential."""

    settings: dict[str, Path]
    credentials: dict[str, Credential]

    def __getitem__(self, tenant: str) -> Credential:
        return self.credentials[tenant]


def write_callers(folder: Path, *tenants: dict[str, Any], scopes: Sequence[Scope] = ("infer",)) -> Callers:
    """Files of these tenants, each with one key of these scopes."""
    tenants_file, keys_file = folder / "tenants.yaml", folder / "keys.yaml"
    tenants_file.write_text(yaml.safe_dump({"tenants": list(tenants)}))
    made = {str(tenant["name"]): new_key(tenant=tenant["name"], scopes=tuple(scopes)) for tenant in tenants}
    keys = [key.model_dump(mode="json", exclude_none=True) for _, key in made.values()]
    for key in keys:
        key.pop("burst", None)
    keys_file.write_text(yaml.safe_dump({"keys": keys}))
    credentials: dict[str, Credential] = {name: (("x-api-key", plain),) for name, (plain, _) in made.items()}
    return Callers({"tenants": tenants_file, "keys": keys_file}, credentials)


async def explained(
    mesh: RunningGateway, model: str, credential: Credential = (), **fields: Any
) -> policy_pb2.ExplainResponse:
    """What PolicyService.Explain says."""
    stub: Any = policy_pb2_grpc.PolicyServiceStub(mesh.channel)
    request = policy_pb2.ExplainRequest(model=model, **fields)
    answer: policy_pb2.ExplainResponse = await stub.Explain(request, metadata=credential)
    return answer


def admin_stub(mesh: RunningGateway) -> Any:
    """Client of AdminService."""
    return admin_pb2_grpc.AdminServiceStub(mesh.channel)
