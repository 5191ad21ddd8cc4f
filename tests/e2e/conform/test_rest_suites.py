"""The REST suites hold on the real mesh, and each of their checks notices a server that lies to it."""

from __future__ import annotations

from typing import Any

import pytest

from conformance.checks import Suite
from conformance.examination import Finding, Verdict, examine
from conformance.oip_rest import OIP_REST
from conformance.openai import OPENAI
from conformance.subject import Subject
from tests.e2e.conform.conftest import KeyedMesh
from tests.e2e.conform.oip_rest_lies import OIP_REST_LIES
from tests.e2e.conform.openai_lies import OPENAI_LIES
from tests.fakes.lying_http import HttpLie, lying_http_proxy

SUITES: list[tuple[Suite[Any], dict[str, HttpLie]]] = [(OIP_REST, OIP_REST_LIES), (OPENAI, OPENAI_LIES)]
LIES = [
    pytest.param(suite, check, lie, id=f"{suite.name}/{check}")
    for suite, lies in SUITES
    for check, lie in lies.items()
]


@pytest.mark.parametrize("suite", [suite for suite, _ in SUITES], ids=lambda suite: suite.name)
async def test_a_suite_holds_on_the_real_mesh(mesh: KeyedMesh, suite: Suite[Any]) -> None:
    findings = await _findings(suite, mesh.subject())
    assert len(findings) == len(suite.checks)
    assert [one for one in findings if one.verdict is not Verdict.HOLDS] == []


@pytest.mark.parametrize(("suite", "check", "lie"), LIES)
async def test_a_check_notices_the_lie_that_is_made_for_it(
    mesh: KeyedMesh, suite: Suite[Any], check: str, lie: HttpLie
) -> None:
    async with lying_http_proxy(mesh.url, mesh.api_key) as proxy:
        subject = mesh.subject(url=proxy.url)
        (honest,) = await _findings(suite, subject, check)
        assert honest.verdict is Verdict.HOLDS, honest
        proxy.lie = lie
        (found,) = await _findings(suite, subject, check)
    assert found.verdict is Verdict.BREAKS, found
    assert found.detail


@pytest.mark.parametrize(("suite", "lies"), SUITES, ids=lambda one: getattr(one, "name", ""))
def test_every_check_has_its_lie(suite: Suite[Any], lies: dict[str, HttpLie]) -> None:
    assert sorted(lies) == sorted(check.name for check in suite.checks)


async def _findings(suite: Suite[Any], subject: Subject, check: str = "*") -> list[Finding]:
    return [finding async for finding in examine([suite], subject, chosen=check)]
