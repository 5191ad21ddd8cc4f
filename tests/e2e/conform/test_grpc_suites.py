"""The gRPC suites hold on the real mesh, and each of their checks notices a server that lies to it."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.checks import Suite
from conformance.examination import Finding, Verdict, examine
from conformance.native import NATIVE
from conformance.oip_grpc import OIP_GRPC
from conformance.subject import Subject
from tests.e2e.conform.conftest import KeyedMesh
from tests.e2e.conform.native_lies import NATIVE_LIES, NATIVE_UNTOLD
from tests.e2e.conform.oip_grpc_lies import OIP_GRPC_LIES
from tests.fakes.lying_grpc import Lie, lying_proxy

SUITES: list[tuple[Suite[Any], dict[str, Lie], dict[str, str]]] = [
    (NATIVE, NATIVE_LIES, NATIVE_UNTOLD),
    (OIP_GRPC, OIP_GRPC_LIES, {}),
]
LIES = [
    pytest.param(suite, check, lie, id=f"{suite.name}/{check}")
    for suite, lies, _ in SUITES
    for check, lie in lies.items()
]


@pytest.mark.parametrize("suite", [suite for suite, _, _ in SUITES], ids=lambda suite: suite.name)
async def test_a_suite_holds_on_the_real_mesh(mesh: KeyedMesh, suite: Suite[Any]) -> None:
    findings = await _findings(suite, mesh.subject())
    assert len(findings) == len(suite.checks)
    assert [one for one in findings if one.verdict is not Verdict.HOLDS] == []


@pytest.mark.parametrize(("suite", "check", "lie"), LIES)
async def test_a_check_notices_the_lie_that_is_made_for_it(
    mesh: KeyedMesh, suite: Suite[Any], check: str, lie: Lie
) -> None:
    async with lying_proxy(mesh.target) as proxy:
        subject = mesh.subject(grpc_target=proxy.target)
        (honest,) = await _findings(suite, subject, check)
        assert honest.verdict is Verdict.HOLDS, honest
        proxy.lie = lie
        (found,) = await _findings(suite, subject, check)
    assert found.verdict is Verdict.BREAKS
    assert found.detail


@pytest.mark.parametrize(("suite", "lies", "untold"), SUITES, ids=lambda one: getattr(one, "name", ""))
def test_every_check_has_its_lie_or_a_reason(
    suite: Suite[Any], lies: dict[str, Lie], untold: dict[str, str]
) -> None:
    assert sorted([*lies, *untold]) == sorted(check.name for check in suite.checks)


async def _findings(suite: Suite[Any], subject: Subject, check: str = "*") -> list[Finding]:
    return [finding async for finding in examine([suite], subject, chosen=check)]
