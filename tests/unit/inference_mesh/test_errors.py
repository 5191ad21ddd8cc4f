from __future__ import annotations

import grpc
import pytest

from inference_mesh.error_status import error_from_status, status_trailers
from inference_mesh.errors import (
    HTTP_STATUS,
    InternalError,
    MeshError,
    RequestTooLargeError,
    UnavailableError,
    all_error_classes,
    http_status,
)


def test_every_grpc_code_has_an_http_status() -> None:
    assert set(HTTP_STATUS) == set(grpc.StatusCode)


def test_reasons_are_unique_so_that_a_client_can_tell_errors_apart() -> None:
    reasons = [error.reason for error in all_error_classes()]
    assert len(reasons) == len(set(reasons))


@pytest.mark.parametrize("error_class", all_error_classes(), ids=lambda found: found.__name__)
def test_an_error_survives_the_wire_with_class_message_and_retry_hint(error_class: type[MeshError]) -> None:
    error = error_class.__new__(error_class)
    MeshError.__init__(error, "what is wrong", retry_after_s=1.5)
    back = error_from_status(error.code, error.message, status_trailers(error))
    assert type(back) is error_class
    if error_class is not InternalError:
        assert (back.message, back.retry_after_s) == ("what is wrong", 1.5)


@pytest.mark.parametrize("error_class", all_error_classes(), ids=lambda found: found.__name__)
def test_every_error_says_its_cause_and_cure(error_class: type[MeshError]) -> None:
    assert error_class.cause.endswith(".")
    assert error_class.cure.endswith(".")


def test_a_status_without_details_becomes_the_error_of_its_code() -> None:
    assert type(error_from_status(grpc.StatusCode.UNAVAILABLE, "gone", ())) is UnavailableError


def test_an_unknown_status_shows_nothing_of_its_text() -> None:
    error = error_from_status(grpc.StatusCode.UNKNOWN, "Unexpected <class 'KeyError'>", ())
    assert error.message == "internal error"


def test_garbage_in_the_details_is_ignored() -> None:
    error = error_from_status(grpc.StatusCode.NOT_FOUND, "x", (("grpc-status-details-bin", b"\xff\xff\xff"),))
    assert error.reason == "MODEL_NOT_FOUND"


def test_too_large_a_body_is_413_and_other_exhaustion_429() -> None:
    assert http_status(RequestTooLargeError("x")) == 413
    assert HTTP_STATUS[grpc.StatusCode.RESOURCE_EXHAUSTED] == 429
