"""What promtool says of configuration, rules and queries, and that the generated files are current."""

from __future__ import annotations

from pathlib import Path

import pytest

from observability.rules import TimeScale, rule_files
from scripts import check_alerts
from scripts.check_alerts import (
    TESTS,
    CheckError,
    check_configuration,
    check_queries,
    check_rules,
    check_test,
)
from scripts.generate_observability import differences


def test_rules_and_dashboards_are_those_of_the_code() -> None:
    assert differences() == [], "run `make generate`"


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_must_and_only_then(path: Path) -> None:
    check_test(path)


def test_configuration_and_rules_are_what_prometheus_takes() -> None:
    check_configuration()
    check_rules()


def test_every_query_of_a_panel_is_promql() -> None:
    check_queries()


def test_an_alert_that_does_not_fire_is_noticed(tmp_path: Path) -> None:
    rules = "groups: [{name: a, rules: [{alert: Down, expr: up == 0}]}]"
    (tmp_path / "rules.yml").write_text(rules)
    test = tmp_path / "test.yml"
    case = "{eval_time: 1m, alertname: Down, exp_alerts: [{exp_labels: {}}]}"
    series = "{series: up, values: 1x10}"
    tests = f"[{{interval: 1m, input_series: [{series}], alert_rule_test: [{case}]}}]"
    test.write_text(f"rule_files: [rules.yml]\ntests: {tests}")
    with pytest.raises(CheckError, match="FAILED"):
        check_test(test)


def test_without_promtool_nothing_is_taken_for_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CheckError, match="promtool is missing"):
        check_rules()
    assert check_alerts.main() == 1


def test_a_scaled_rule_is_the_same_rule_with_shorter_windows() -> None:
    real, short = rule_files(), rule_files(TimeScale(0.01, 0.5, 3))
    assert real.keys() == short.keys()
    assert "[3d]" in real["recordings.yml"]
    assert "[2592s]" in short["recordings.yml"]
    assert "[3s]" in short["recordings.yml"]
    assert [text.count("\n") for text in real.values()] == [text.count("\n") for text in short.values()]


@pytest.mark.parametrize(("seconds", "text"), [(300, "5m"), (90, "90s"), (86400, "1d"), (0.25, "250ms")])
def test_a_duration_is_written_as_prometheus_reads_it(seconds: float, text: str) -> None:
    assert TimeScale().duration(seconds) == text
