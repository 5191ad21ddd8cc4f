"""The version of the program that runs, as it was installed."""

from __future__ import annotations

from importlib import metadata


def installed_version() -> str:
    """Of the distribution, e.g. "0.1.0"; "0" where the code runs without having been installed."""
    try:
        return metadata.version("inference-mesh")
    except metadata.PackageNotFoundError:
        return "0"
