"""The dashboards by file name."""

from __future__ import annotations

from observability.dashboards.model import model
from observability.dashboards.overview import overview
from observability.dashboards.processes import processes
from observability.dashboards.resources import resources
from observability.dashboards.tenants import tenants


def dashboard_files() -> dict[str, str]:
    """JSON of each dashboard."""
    pages = (overview(), model(), tenants(), processes(), resources())
    return {f"{page.uid}.json": page.text() for page in pages}
