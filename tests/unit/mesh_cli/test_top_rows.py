"""Rows of models, replicas and tenants, from pages with known numbers."""

from __future__ import annotations

import pytest

from mesh_cli.state import Kind
from mesh_cli.top.change import Change, Reading, change_between
from mesh_cli.top.choices import Grouping, SortKey
from mesh_cli.top.page import parse_page
from mesh_cli.top.report import in_order
from mesh_cli.top.rows import rows_of
from mesh_cli.top.targets import Target
from mesh_cli.top.traffic import Row

GATEWAY_BEFORE = """\
mesh_gateway_requests_total{model="chat",method="Infer",code="OK"} 100
mesh_gateway_request_seconds_bucket{model="chat",method="Infer",le="0.1"} 100
mesh_gateway_request_seconds_bucket{model="chat",method="Infer",le="0.5"} 100
mesh_gateway_request_seconds_bucket{model="chat",method="Infer",le="+Inf"} 100
mesh_gateway_tokens_total{tenant="a",model="chat",type="completion"} 1000
mesh_gateway_tenant_requests_total{tenant="a",model="chat",outcome="OK"} 100
"""
# In 10 s: 10 calls (6 took 0.1 s to 0.5 s, 1 failed, 1 was cancelled), and 5 that were no inference.
GATEWAY_AFTER = """\
mesh_gateway_requests_total{model="chat",method="Infer",code="OK"} 108
mesh_gateway_requests_total{model="chat",method="InferStream",code="INTERNAL"} 1
mesh_gateway_requests_total{model="chat",method="Infer",code="CANCELLED"} 1
mesh_gateway_requests_total{model="unknown",method="ListModels",code="OK"} 5
mesh_gateway_request_seconds_bucket{model="chat",method="Infer",le="0.1"} 102
mesh_gateway_request_seconds_bucket{model="chat",method="Infer",le="0.5"} 108
mesh_gateway_request_seconds_bucket{model="chat",method="Infer",le="+Inf"} 110
mesh_gateway_tokens_total{tenant="a",model="chat",type="completion"} 1200
mesh_gateway_tokens_total{tenant="a",model="chat",type="prompt"} 50
mesh_gateway_tokens_total{tenant="b",model="chat",type="response_cached"} 70
mesh_gateway_tenant_requests_total{tenant="a",model="chat",outcome="OK"} 108
mesh_gateway_tenant_requests_total{tenant="b",model="chat",outcome="RESOURCE_EXHAUSTED"} 2
mesh_gateway_in_flight{model="chat"} 3
mesh_gateway_queue_depth{model="chat",priority="normal"} 1
mesh_gateway_queue_depth{model="chat",priority="bulk"} 4
mesh_gateway_endpoint_ready{model="chat",endpoint="a:1"} 1
mesh_gateway_endpoint_ready{model="chat",endpoint="b:1"} 0
mesh_gateway_endpoint_ready{model="idle",endpoint="c:1"} 1
"""
WORKER_BEFORE = 'mesh_worker_model_ready{model="chat"} 1\n'
WORKER_AFTER = """\
mesh_worker_model_ready{model="chat"} 1
mesh_worker_requests_total{model="chat",protocol="grpc",code="OK"} 20
mesh_worker_time_to_first_token_seconds_bucket{model="chat",le="0.01"} 10
mesh_worker_time_to_first_token_seconds_bucket{model="chat",le="0.03"} 30
mesh_worker_time_to_first_token_seconds_bucket{model="chat",le="+Inf"} 30
mesh_worker_tokens_total{model="chat",kind="completion"} 40
mesh_worker_in_flight{model="chat"} 2
mesh_worker_queue_depth{model="chat"} 6
mesh_worker_running{model="chat"} 1
mesh_worker_slots{model="chat"} 4
mesh_worker_kv_cache_usage_ratio{model="chat"} 0.25
"""


def _reading(name: str, before: str, after: str) -> Reading:
    change = change_between(parse_page(before), parse_page(after), 10)
    return Reading(Target(name, f"http://{name}", change.page.kind, change.page.model), change)


def _lost(kind: Kind) -> Reading:
    return Reading(Target("lost", "http://lost", kind, "chat"), problem="no connection")


GATEWAY = _reading("gateway", GATEWAY_BEFORE, GATEWAY_AFTER)
WORKER = _reading("chat-0", WORKER_BEFORE, WORKER_AFTER)
FULLER = _reading("chat-1", WORKER_BEFORE, WORKER_AFTER.replace("0.25", "0.75"))


def test_a_model_is_told_by_the_gateway_and_its_engines_by_the_workers() -> None:
    rows = {row.model: row for row in rows_of([WORKER, FULLER, GATEWAY], Grouping.MODEL)}
    assert set(rows) == {"chat", "idle"}
    chat = rows["chat"]
    assert chat.requests_per_s == pytest.approx(1.0)
    assert chat.errors_per_s == pytest.approx(0.1)
    assert chat.p50_s == pytest.approx(0.3)  # rank 5 of 10: 3 of the 6 between 0.1 and 0.5
    assert chat.p99_s == 0.5
    assert chat.first_token_p50_s == pytest.approx(0.015)  # rank 3 of 6: 1 of the 4 between 0.01 and 0.03
    assert (chat.in_flight, chat.queue_depth) == (3, 1 + 4 + 6 + 6)
    assert chat.prompt_tokens_per_s == pytest.approx(5.0)
    assert chat.completion_tokens_per_s == pytest.approx(20.0)
    assert (chat.kv_cache_usage_ratio, chat.running, chat.slots) == (0.75, 2, 8)
    assert (chat.ready, chat.replicas) == (1, 2)


def test_a_model_without_calls_has_zeros_and_no_latency() -> None:
    (idle,) = [row for row in rows_of([GATEWAY], Grouping.MODEL) if row.model == "idle"]
    assert (idle.requests_per_s, idle.errors_per_s, idle.in_flight, idle.queue_depth) == (0, 0, 0, 0)
    assert (idle.p50_s, idle.p99_s, idle.first_token_p50_s, idle.kv_cache_usage_ratio) == (None,) * 4


def test_without_a_gateway_the_workers_tell_of_the_calls() -> None:
    (chat,) = rows_of([WORKER, FULLER], Grouping.MODEL)
    assert (chat.requests_per_s, chat.in_flight, chat.queue_depth) == (4, 4, 12)
    assert (chat.completion_tokens_per_s, chat.ready, chat.replicas) == (8, 2, 2)


def test_calls_are_summed_over_gateways_and_replicas_are_not() -> None:
    other = _reading("other", GATEWAY_BEFORE, GATEWAY_AFTER.replace('"b:1"} 0', '"b:1"} 1'))
    chat = rows_of([GATEWAY, other], Grouping.MODEL)[0]
    assert chat.requests_per_s == pytest.approx(2.0)
    assert chat.p50_s == pytest.approx(0.3)
    assert (chat.ready, chat.replicas) == (2, 2)


def test_a_model_of_which_there_is_only_one_page_has_gauges_and_no_rates() -> None:
    first = Reading(GATEWAY.target, Change(parse_page(GATEWAY_AFTER)))
    chat = rows_of([first], Grouping.MODEL)[0]
    assert (chat.requests_per_s, chat.errors_per_s, chat.p50_s) == (None, None, None)
    assert chat.in_flight == 3


def test_calls_of_no_model_have_a_row_while_there_are_any() -> None:
    refused = 'mesh_gateway_requests_total{model="unknown",method="Infer",code="NOT_FOUND"} 5\n'
    rows = rows_of([_reading("gateway", GATEWAY_BEFORE, refused)], Grouping.MODEL)
    assert [(row.model, row.errors_per_s) for row in rows] == [("unknown", 0.5)]
    quiet = rows_of([_reading("gateway", refused, refused)], Grouping.MODEL)
    assert quiet == []


def test_a_replica_that_cannot_be_read_keeps_its_row() -> None:
    rows = rows_of([_lost("worker"), GATEWAY, WORKER, _lost("gateway")], Grouping.REPLICA)
    assert [(row.model, row.replica, row.ready) for row in rows] == [
        ("chat", "chat-0", 1),
        ("chat", "lost", 0),
    ]
    assert (rows[0].requests_per_s, rows[1].requests_per_s) == (2, None)


def test_a_tenant_has_a_row_for_each_model_that_it_calls() -> None:
    first, second = rows_of([GATEWAY, WORKER], Grouping.TENANT)
    assert (first.tenant, first.model, second.tenant, second.model) == ("a", "chat", "b", "chat")
    assert (first.requests_per_s, first.errors_per_s) == (0.8, 0)
    assert (first.prompt_tokens_per_s, first.completion_tokens_per_s) == (5, 20)
    assert (second.requests_per_s, second.errors_per_s) == (0.2, 0.2)
    assert (second.completion_tokens_per_s, second.in_flight) == (0, None)


def test_rows_are_sorted_from_the_largest_down_and_what_is_not_known_comes_last() -> None:
    rows = [Row("a", p99_s=None), Row("b", p99_s=0.1), Row("c", p99_s=0.3), Row("d", p99_s=0.1)]
    assert [row.model for row in in_order(rows, SortKey.P99)] == ["c", "b", "d", "a"]
    assert [row.model for row in in_order(rows, SortKey.NAME)] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("sort", list(SortKey))
def test_every_column_can_be_sorted_by(sort: SortKey) -> None:
    assert len(in_order(rows_of([GATEWAY, WORKER], Grouping.MODEL), sort)) == 2
