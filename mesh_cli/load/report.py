"""The figures of a load as a table for people and as JSON for programs. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from mesh_cli.load.figures import PERCENTILES, Figures, Spread

Json = dict[str, object]

MS = 1000


def document_of(figures: Figures) -> Json:
    """Everything, durations in seconds."""
    return {
        "calls": figures.calls,
        "answered": figures.answered,
        "errors": dict(figures.errors),
        "seconds": figures.seconds,
        "calls_per_s": figures.calls_per_s,
        "prompt_tokens_per_s": figures.prompt_tokens_per_s,
        "completion_tokens_per_s": figures.completion_tokens_per_s,
        "latency_s": _document_of(figures.latency),
        "time_to_first_token_s": _document_of(figures.first_token),
        "time_per_output_token_s": _document_of(figures.per_token),
    }


def table_of(figures: Figures, title: str) -> Table:
    """A row for each figure; durations in milliseconds."""
    table = Table(title=title, title_justify="left", show_header=True, header_style="bold")
    table.add_column("figure")
    for heading in ("value", *(f"p{percent}" for percent in PERCENTILES), "longest"):
        table.add_column(heading, justify="right")
    for name, value in _rates(figures):
        table.add_row(name, value)
    for name, spread in (
        ("latency, ms", figures.latency),
        ("time to first token, ms", figures.first_token),
        ("time per output token, ms", figures.per_token),
    ):
        if spread is not None:
            table.add_row(name, "", *_cells(spread))
    for error, count in sorted(figures.errors.items(), key=lambda item: -item[1]):
        table.add_row(f"[red]failed: {error}", str(count))
    return table


def _rates(figures: Figures) -> Iterator[tuple[str, str]]:
    yield "answered", f"{figures.answered} of {figures.calls} in {figures.seconds:.1f} s"
    yield "calls per second", f"{figures.calls_per_s:.1f}"
    if figures.prompt_tokens_per_s:
        yield "tokens read per second", f"{figures.prompt_tokens_per_s:.0f}"
    if figures.completion_tokens_per_s:
        yield "tokens written per second", f"{figures.completion_tokens_per_s:.0f}"


def _cells(spread: Spread) -> list[str]:
    values = [*(spread.percentiles[percent] for percent in PERCENTILES), spread.longest]
    return [f"{value * MS:.1f}" for value in values]


def _document_of(spread: Spread | None) -> Json | None:
    if spread is None:
        return None
    return {**{f"p{percent}": spread.percentiles[percent] for percent in PERCENTILES}, "max": spread.longest}
