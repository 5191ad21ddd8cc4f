from __future__ import annotations

import contextvars
import json
import logging
from pathlib import Path

import pytest
from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from inference_mesh import lifecycle, load_report, telemetry, tracing
from inference_mesh.errors import InvalidInputError
from inference_mesh.request_ids import request_id_from
from inference_mesh.settings import ServiceSettings, SettingsError, load_settings


class _Example(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix="MESH_EXAMPLE_", extra="forbid", frozen=True)

    slots: int = Field(8, ge=1, le=64)
    password: str = ""

    @model_validator(mode="after")
    def _password_fits(self) -> _Example:
        if self.password and self.slots == 1:
            raise ValueError("password needs more than one of slots")
        return self


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_EXAMPLE_SLOTS", "3")
    assert load_settings(_Example).slots == 3
    assert load_settings(_Example, {"slots": 4}).slots == 4
    assert load_settings(_Example, {"slots": None}).slots == 3


def test_a_value_out_of_range_is_a_sentence_with_key_value_and_range(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_EXAMPLE_SLOTS", "65")
    with pytest.raises(SettingsError, match=r"slots.*MESH_EXAMPLE_SLOTS.*65.*64"):
        load_settings(_Example)


def test_settings_that_do_not_fit_together_are_a_sentence_without_any_value() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(_Example, {"slots": 1, "password": "secret"})
    assert str(caught.value) == "password needs more than one of slots"


def test_an_unknown_variable_of_the_service_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_EXAMPLE_SLOTZ", "65")
    with pytest.raises(SettingsError, match="MESH_EXAMPLE_SLOTZ"):
        load_settings(_Example)


@pytest.mark.parametrize("bad", ["a b", "a\n", "ä", "x" * 129, "\x00"])
def test_a_request_id_that_could_spoil_a_log_is_refused(bad: str) -> None:
    with pytest.raises(InvalidInputError):
        request_id_from(bad)


def test_an_absent_request_id_is_made() -> None:
    assert len(request_id_from(None)) == 32
    assert request_id_from("mine") == "mine"


def test_a_load_report_survives_the_trailer() -> None:
    report = load_report.LoadReport(utilization=0.5, queued=3, running=4, kv_utilization=0.25)
    assert load_report.decode(load_report.encode(report)) == report
    assert load_report.decode(b"\xff") is None


def test_a_load_report_has_the_bytes_of_orcas_own_message() -> None:
    # Made by xds.data.orca.v3.OrcaLoadReport, which cannot be installed beside OpenTelemetry (ADR 0005).
    original = (
        "2a130a086b765f636163686511000000000000d03f42160a0b71756575655f64657074681100000000000008"
        "4042120a0772756e6e696e6711000000000000004049000000000000e03f"
    )
    ours = load_report.LoadReport(utilization=0.5, queued=3, running=2, kv_utilization=0.25)
    assert load_report.decode(bytes.fromhex(original)) == ours
    assert len(load_report.encode(ours)) == len(bytes.fromhex(original))


def test_a_log_line_is_one_json_object_with_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    saved = logging.getLogger().handlers[:]
    try:
        telemetry.configure_logging("worker")
        telemetry.get_logger("x").info("model loaded", model="iris")
    finally:
        logging.getLogger().handlers[:] = saved
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["service"], line["level"], line["model"]) == (
        "model loaded",
        "worker",
        "info",
        "iris",
    )


def test_a_span_continues_the_callers_trace() -> None:
    tracing.configure_tracing("test", None, 1.0)
    caller = "0af7651916cd43dd8448eb211c80319c"
    with tracing.span("call", metadata=(("traceparent", f"00-{caller}-b7ad6b7169203331-01"),), kind="server"):
        assert tracing.current_trace_id() == caller
        assert dict(tracing.trace_metadata())["traceparent"].split("-")[1] == caller


def test_a_span_that_is_left_in_another_context_is_ended_without_a_complaint(
    caplog: pytest.LogCaptureFixture,
) -> None:
    span = tracing.span("stream")
    current = contextvars.copy_context().run(span.__enter__)
    span.__exit__(None, None, None)
    assert not current.is_recording()
    assert caplog.records == []


def test_a_port_file_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    lifecycle.write_port_file(str(path), grpc=1, http=2)
    assert {"grpc": 1, "http": 2}.items() <= json.loads(path.read_text()).items()
    assert [entry.name for entry in tmp_path.iterdir()] == ["ports.json"]
