"""Findings as a table for people, as JSON for programs, and as JUnit XML for CI."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from rich.markup import escape
from rich.table import Table

from conformance.examination import Finding, Verdict

COLOURS = {Verdict.HOLDS: "green", Verdict.BREAKS: "red", Verdict.SKIPPED: "yellow"}
NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold; a server may have sent it."""


def counts_of(findings: Sequence[Finding]) -> dict[Verdict, int]:
    """How many have each verdict."""
    return {verdict: sum(one.verdict is verdict for one in findings) for verdict in Verdict}


def table_of(findings: Sequence[Finding], title: str) -> Table:
    """One row for each check, with what was seen where it does not hold."""
    table = Table(title=escape(title), title_justify="left", caption_justify="left", box=None, pad_edge=False)
    for heading in ("SUITE", "CHECK", "VERDICT", "SEEN"):
        table.add_column(heading, overflow="fold", no_wrap=heading in ("SUITE", "VERDICT"))
    for one in findings:
        colour = COLOURS[one.verdict]
        table.add_row(one.suite, one.check, f"[{colour}]{one.verdict.value}[/]", _text(one))
    counts = counts_of(findings)
    table.caption = ", ".join(f"{number} {verdict.value}" for verdict, number in counts.items())
    return table


def document_of(findings: Sequence[Finding], endpoints: Sequence[str]) -> dict[str, object]:
    """The report as JSON: endpoints, counts by verdict, and every finding with its fields."""
    return {
        "endpoints": list(endpoints),
        "counts": {verdict.value: number for verdict, number in counts_of(findings).items()},
        "findings": [
            {
                "suite": one.suite,
                "check": one.check,
                "claim": one.claim,
                "verdict": one.verdict.value,
                "detail": one.detail,
                "seconds": round(one.seconds, 6),
            }
            for one in findings
        ],
    }


def junit_of(findings: Sequence[Finding]) -> str:
    """The report as JUnit XML: a suite for each protocol, a breach as a failure, a skip as skipped."""
    root = ElementTree.Element("testsuites", name="mesh conform")
    for name in dict.fromkeys(one.suite for one in findings):
        own = [one for one in findings if one.suite == name]
        counts = counts_of(own)
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=name,
            tests=str(len(own)),
            failures=str(counts[Verdict.BREAKS]),
            errors="0",
            skipped=str(counts[Verdict.SKIPPED]),
            time=f"{sum(one.seconds for one in own):.6f}",
        )
        for one in own:
            _add_case(suite, one)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add_case(suite: ElementTree.Element, one: Finding) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", classname=f"conformance.{one.suite}", name=one.check, time=f"{one.seconds:.6f}"
    )
    detail = NOT_IN_XML.sub("\ufffd", one.detail)
    if one.verdict is Verdict.BREAKS:
        ElementTree.SubElement(case, "failure", message=detail, type="Breach").text = one.claim
    elif one.verdict is Verdict.SKIPPED:
        ElementTree.SubElement(case, "skipped", message=detail)


def _text(one: Finding) -> str:
    """What stands beside a verdict: a breach is read beside its claim."""
    seen = one.detail if one.verdict is not Verdict.BREAKS else f"{one.detail}\nclaim: {one.claim}"
    return escape(seen)
