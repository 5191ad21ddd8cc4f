"""A run of the conformance suites: who is examined, by which suites, and how it is told."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console

from conformance.checks import Suite
from conformance.examination import Finding, Verdict, examine, spoken
from conformance.native import NATIVE
from conformance.oip_grpc import OIP_GRPC
from conformance.oip_rest import OIP_REST
from conformance.openai import OPENAI
from conformance.report import counts_of, document_of, junit_of, table_of
from conformance.subject import ModelNames, Subject
from inference_mesh.client_tls import ClientTls
from inference_mesh.errors import UnavailableError
from mesh_cli.errors import FailedError, NotRunningError, UsageError
from mesh_cli.mesh_table import output_console
from mesh_cli.state import StateFolder
from mesh_cli.target import host_and_port

BY_GRPC: tuple[Suite[Any], ...] = (NATIVE, OIP_GRPC)
BY_HTTP: tuple[Suite[Any], ...] = (OIP_REST, OPENAI)


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """What is to be examined. is_named: the suites were asked for, and are run even if not spoken."""

    subject: Subject
    suites: tuple[Suite[Any], ...]
    is_named: bool
    chosen: str


def subject_of(
    endpoints: Sequence[str],
    state_dir: Path,
    api_key: str | None,
    tls: ClientTls | None,
    models: ModelNames,
    timeout_s: float,
) -> Subject:
    """The server of the addresses; without any, the mesh that runs here.

    Raises UsageError for an address that is none, NotRunningError if there is no mesh either.
    """
    if not endpoints:
        state = StateFolder(state_dir).read()
        if state is None or not state.is_running:
            raise NotRunningError("no mesh is running; start one with `mesh up`, or say an ENDPOINT")
        endpoints = (state.target, state.url)
    grpc_targets = [one for one in endpoints if "://" not in one]
    urls = [one.rstrip("/") for one in endpoints if "://" in one]
    for kind, found in (("gRPC", grpc_targets), ("REST", urls)):
        if len(found) > 1:
            raise UsageError(f"two {kind} endpoints: {found[0]} and {found[1]}; allowed is one of each kind")
    for target in grpc_targets:
        host_and_port(target)
    for url in urls:
        _check_url(url)
    return Subject(
        grpc_target=next(iter(grpc_targets), ""),
        url=next(iter(urls), ""),
        api_key=api_key,
        tls=tls,
        models=models,
        timeout_s=timeout_s,
    )


def chosen_suites(names: Sequence[str] | None, subject: Subject) -> tuple[Suite[Any], ...]:
    """The suites of these names that the endpoints have a door for; None = all. Raises UsageError."""
    doors = ((subject.grpc_target, "host:port", BY_GRPC), (subject.url, "http://host:port", BY_HTTP))
    for address, form, suites in doors:
        for suite in suites:
            if names and suite.name in names and not address:
                raise UsageError(f"--suite {suite.name} needs an endpoint of the form {form}")
    return tuple(
        suite
        for address, _, suites in doors
        for suite in suites
        if address and (not names or suite.name in names)
    )


def catalogue(names: Sequence[str] | None, chosen: str) -> list[str]:
    """The checks as lines: suite/check: claim."""
    return [
        f"{suite.name}/{check.name}: {check.claim}"
        for suite in (*BY_GRPC, *BY_HTTP)
        if not names or suite.name in names
        for check in suite.checks
        if fnmatchcase(check.name, chosen)
    ]


def run_order(order: Order, junit: Path | None, *, as_json: bool) -> bool:
    """Examine and print; whether nothing broke. Raises FailedError if there was nothing to examine."""
    subject = order.subject
    findings = asyncio.run(_findings(order, Console(stderr=True)))
    if not findings:
        raise FailedError("nothing was examined")
    endpoints = [one for one in (subject.grpc_target, subject.url) if one]
    if junit is not None:
        _write(junit, junit_of(findings))
    if as_json:
        print(json.dumps(document_of(findings, endpoints)))
    else:
        output_console().print(table_of(findings, " ".join(endpoints)))
    counts = counts_of(findings)
    return counts[Verdict.BREAKS] == 0 and counts[Verdict.HOLDS] > 0


async def _findings(order: Order, console: Console) -> list[Finding]:
    try:
        suites = order.suites if order.is_named else await _spoken(order, console)
        total = sum(fnmatchcase(check.name, order.chosen) for suite in suites for check in suite.checks)
        if not total and suites:
            raise UsageError(f"no check has a name like '{order.chosen}'; --list prints them")
        findings: list[Finding] = []
        with console.status("") as line:
            async for finding in examine(suites, order.subject, chosen=order.chosen):
                findings.append(finding)
                line.update(f"{len(findings)}/{total} {finding.suite}/{finding.check}")
    except UnavailableError as error:
        raise NotRunningError(error.message) from None
    return findings


async def _spoken(order: Order, console: Console) -> list[Suite[Any]]:
    found = await spoken(order.suites, order.subject)
    for suite in order.suites:
        if suite not in found:
            console.print(f"{suite.name}: not spoken there, left out; --suite {suite.name} runs it anyway")
    return found


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"endpoint '{url}' must be http://host:port, https://host:port or host:port (gRPC)")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise FailedError(f"cannot write '{path}': {error.strerror}") from None
