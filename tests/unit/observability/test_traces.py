"""Traces go to Tempo, and panels, lines and spans lead to each other.

Nothing here can run Tempo, so its configuration is compared with what it speaks of.
"""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from inference_mesh import tracing
from observability.dashboards.panels import WITH_EXEMPLARS
from scripts.check_alerts import DASHBOARDS, ROOT, panels_of
from tests.support.manifests import config_file, rendered, workloads

OBSERVABILITY = ROOT / "observability"
TEMPO: dict[str, Any] = yaml.safe_load((OBSERVABILITY / "tempo" / "tempo.yml").read_text())
TELEMETRY = "examples/telemetry"


def source_of(prefix: str, key: str = "datasource.yml", overlay: str = TELEMETRY) -> dict[str, Any]:
    """The one datasource of a file that Grafana has in an overlay."""
    [source] = yaml.safe_load(config_file(rendered(overlay), prefix, key))["datasources"]
    found: dict[str, Any] = source
    return found


def test_processes_send_their_spans_to_the_port_where_tempo_takes_them() -> None:
    port = TEMPO["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].rpartition(":")[2]
    told = {
        workload.name: value
        for workload in workloads(TELEMETRY)
        for container in workload.containers
        for name, value in workload.environment(container).items()
        if name.endswith("_OTLP_ENDPOINT")
    }
    assert set(told) == {"gateway", "rest-bridge", "llm", "embeddings"}
    assert set(told.values()) == {f"http://tempo.ai-observability.svc.cluster.local:{port}"}


def test_traces_are_kept_for_a_time_and_on_the_volume() -> None:
    [tempo] = [one for one in workloads(TELEMETRY) if one.name == "tempo"]
    mounted = {one["name"]: one["mountPath"] for one in tempo.containers[0]["volumeMounts"]}
    assert TEMPO["compactor"]["compaction"]["block_retention"] == "168h"
    for place in ("wal", "local"):
        assert TEMPO["storage"]["trace"][place]["path"].startswith(f"{mounted['data']}/")


def test_with_tempo_the_metrics_are_the_same_and_their_exemplars_lead_to_it() -> None:
    plain = source_of("grafana-provisioning", "datasources.yml", "overlays/prod")
    linked = source_of("grafana-provisioning", "datasources.yml")
    [link] = linked["jsonData"].pop("exemplarTraceIdDestinations")
    assert linked == plain
    assert link == {"name": "trace_id", "datasourceUid": source_of("grafana-tempo")["uid"]}


def test_the_label_of_an_exemplar_is_the_one_that_the_link_reads() -> None:
    assert '{"trace_id": place.trace_id}' in (ROOT / "inference_mesh" / "tracing.py").read_text()
    assert tracing.exemplar() is None


def test_the_99th_percentile_of_each_latency_shows_the_calls_behind_it_and_no_other_line_does() -> None:
    shown = set()
    for path in DASHBOARDS:
        for panel in panels_of(json.loads(path.read_text())):
            for target in panel["targets"]:
                measured = set(re.findall(r"(\w+)_bucket", target["expr"]))
                is_wanted = (
                    panel["type"] == "timeseries"
                    and "histogram_quantile(0.99" in target["expr"]
                    and measured <= WITH_EXEMPLARS
                )
                assert target.get("exemplar", False) is is_wanted, (path.name, panel["title"])
                shown |= measured if is_wanted else set()
    assert shown == WITH_EXEMPLARS


def test_prometheus_keeps_exemplars_and_asks_for_the_format_that_has_them() -> None:
    [prometheus] = [one for one in workloads(TELEMETRY) if one.name == "prometheus"]
    assert "--enable-feature=exemplar-storage" in prometheus.containers[0]["args"]
    # By default Prometheus asks for OpenMetrics first; tests/e2e/test_exemplars.py runs one.
    configuration = config_file(rendered(TELEMETRY), "prometheus-config", "prometheus.yml")
    assert "scrape_protocols" not in configuration


def test_there_is_one_of_each_store_since_two_would_not_share_a_volume() -> None:
    stores = {one.name: one.document["spec"].get("replicas") for one in workloads(TELEMETRY)}
    assert (stores["tempo"], stores["loki"], stores["alloy"]) == (1, 1, 1)


def test_a_line_leads_to_its_trace_and_a_span_to_its_lines() -> None:
    loki, tempo = source_of("grafana-loki"), source_of("grafana-tempo")
    [field] = loki["jsonData"]["derivedFields"]
    assert (field["matcherRegex"], field["datasourceUid"]) == ("trace_id", tempo["uid"])
    assert tempo["jsonData"]["tracesToLogsV2"]["datasourceUid"] == loki["uid"]
    alloy = (OBSERVABILITY / "loki" / "config.alloy").read_text()
    kept = re.search(r"stage.structured_metadata \{\s*values = \{([^}]*)\}", alloy)
    assert kept
    assert "trace_id" in kept[1]


def test_the_links_change_nothing_but_the_links() -> None:
    for name in ("loki", "tempo"):
        plain = yaml.safe_load((OBSERVABILITY / name / "datasource.yml").read_text())["datasources"][0]
        linked = source_of(f"grafana-{name}")
        del linked["jsonData"]
        assert linked == plain


def test_a_variable_of_grafana_is_not_taken_for_one_of_the_environment() -> None:
    """Provisioning files replace $NAME; a doubled sign stands for one."""
    for name in ("loki.yml", "tempo.yml"):
        text = (OBSERVABILITY / "logs_traces_links" / name).read_text()
        assert re.findall(r"(?<!\$)\$\{", text) == []
        assert "$${" in text
