"""What an answer of /readyz means."""

from __future__ import annotations

import pytest

from mesh_cli.readiness import Readiness, readiness_of


@pytest.mark.parametrize(
    ("body", "meaning"),
    [
        (
            b'{"ready": false, "detail": {"model": "m", "reason": "the model is still loading"}}',
            Readiness(False, "the model is still loading", is_final=False),
        ),
        (
            b'{"ready": false, "detail": {"model": "m", "reason": "the file is damaged"}}',
            Readiness(False, "the file is damaged", is_final=True),
        ),
        (
            b'{"ready": false, "detail": {"gateway": "NOT_SERVING"}}',
            Readiness(False, "gateway: NOT_SERVING", is_final=False),
        ),
        (b"", Readiness(False, "not ready")),
        (b"[]", Readiness(False, "not ready")),
        (b'{"detail": "x"}', Readiness(False, "not ready")),
    ],
)
def test_only_a_workers_reason_other_than_loading_is_final(body: bytes, meaning: Readiness) -> None:
    assert readiness_of(body) == meaning
