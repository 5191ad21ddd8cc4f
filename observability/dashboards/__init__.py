"""The dashboards of Grafana, made with its Foundation SDK."""

from observability.dashboards.dashboard_files import dashboard_files

__all__ = ["dashboard_files"]
