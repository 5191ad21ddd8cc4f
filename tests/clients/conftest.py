"""One mesh for all clients, and room for the time that their environments take to make."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import RunningMesh, start_mesh
from tests.support.processes import process_group


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    """The embedded models behind a gateway and a bridge."""
    folder = tmp_path_factory.mktemp("mesh")
    with process_group(folder) as group:
        yield start_mesh(group, folder)
