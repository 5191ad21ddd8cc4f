"""Traces of calls through all three processes, received by a real OTLP server; and what is in no trace."""

from __future__ import annotations

import base64
import dataclasses
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from inference_mesh.config.keys_file import new_key
from tests.support import canaries
from tests.support.canaries import MARK, marked
from tests.support.llama_engine import END_TOKENS
from tests.support.processes import MINILM, TINY_CHAT, MeshProcess, process_group, write_models_file
from tests.support.span_receiver import Kept, SpanReceiver, span_receiver
from tests.support.tokens import AUDIENCE, ISSUER, claims, jwks, rsa_key

SAMPLED, NOT_SAMPLED = "01", "00"
CHAT = {"messages": [{"role": "user", "content": marked("Who are you?")}], "max_tokens": 8, "temperature": 0}
LONG_CHAT = {**CHAT, "max_tokens": 64, "logit_bias": dict.fromkeys(map(str, END_TOKENS), -100)}
"""So long that the engine's part of the call is nearly all of it."""
DIGITS = {"type": "array", "items": {"enum": ["0", "1"]}, "minItems": 100, "maxItems": 100}
"""What takes a while to write."""
ERROR = 2
ISSUER_KEY = rsa_key("traces")


@dataclasses.dataclass
class TracedMesh:
    """A mesh that sends the spans of sampled calls, and that samples none by itself."""

    key: str
    bridge: MeshProcess
    gateway: MeshProcess
    workers: dict[str, MeshProcess]
    spans: SpanReceiver
    _calls: int = 0

    def ask(
        self, model: str, payload: dict[str, Any], flags: str = SAMPLED, credential: str = "", **more: Any
    ) -> str:
        """Make a call on behalf of a caller who traces; the trace's id. credential: another than the key."""
        self._calls += 1
        trace_id = f"{0xABC0000 + self._calls:032x}"
        answer = httpx.post(
            f"{self.bridge.url}/api/infer",
            json={"model": model, "payload": payload, **more},
            headers={
                "traceparent": f"00-{trace_id}-b7ad6b7169203331-{flags}",
                "tracestate": "vendor=of-the-caller",
                "authorization": f"Bearer {credential or self.key}",
            },
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        return trace_id

    def stop(self) -> None:
        """End all, so that every span has been sent."""
        for process in (self.bridge, self.gateway, *self.workers.values()):
            assert process.stop() == 0

    def line_of(self, process: MeshProcess, trace_id: str) -> dict[str, Any]:
        """The one line of a process about a call."""
        lines = [json.loads(line) for line in process.log_text().splitlines() if trace_id in line]
        assert len(lines) == 1, lines
        line: dict[str, Any] = lines[0]
        return line


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[TracedMesh]:
    """A mesh of two models; the one that generates works on one request at a time."""
    with span_receiver(ratio=0.0) as spans:
        with process_group(tmp_path) as group:
            chat = group.worker(TINY_CHAT, *spans.arguments, "--slots", "1", name="chat", runtime="llama")
            embed = group.worker(MINILM, *spans.arguments, name="minilm", runtime="onnx")
            workers = {"chat": chat, "minilm": embed}
            for worker in workers.values():
                worker.wait_until_ready()
            replicas = {name: [worker] for name, worker in workers.items()}
            models = write_models_file(tmp_path / "models.yaml", replicas)
            key, flags = _write_credentials(tmp_path)
            gateway = group.gateway(models, *spans.arguments, *flags)
            gateway.wait_until_ready()
            bridge = group.bridge(gateway, *spans.arguments)
            bridge.wait_until_ready()
            yield TracedMesh(key, bridge, gateway, workers, spans)
        canaries.check([("spans", spans.text())])


def test_one_call_is_one_trace_from_the_bridge_to_the_stages_of_the_engine(traced: TracedMesh) -> None:
    traced.ask("chat", CHAT, NOT_SAMPLED)  # the bridge asks for the model's task once
    trace_id = traced.ask("chat", LONG_CHAT, stream=True)
    traced.stop()
    spans = traced.spans.of(trace_id)
    assert [(one.service, one.name) for one in spans] == [
        ("rest-bridge", "bridge POST /api/infer"),
        ("gateway", "InferStream"),
        ("gateway", "InferStream"),
        ("worker-chat", "worker native-stream"),
        ("worker-chat", "queue"),
        ("worker-chat", "prefill"),
        ("worker-chat", "decode"),
    ]
    assert _parents(spans) == [None, 0, 1, 2, 3, 3, 3]
    assert {one.span.trace_state for one in spans} == {"vendor=of-the-caller"}
    _, server, client, worker, *stages = spans
    assert sum(stage.seconds for stage in stages) == pytest.approx(worker.seconds, rel=0.3)
    assert client.attributes["server.address"] == traced.workers["chat"].grpc_target
    assert stages[2].attributes["mesh.completion_tokens"] == 64
    assert stages[2].attributes["mesh.batch.mean_rows"] == 1
    for one in (server, worker):
        told = one.attributes
        assert told["gen_ai.operation.name"] == "chat"
        assert told["gen_ai.provider.name"] == "inference_mesh"
        assert (told["gen_ai.request.model"], told["gen_ai.response.model"]) == ("chat", "chat")
        assert (told["gen_ai.request.max_tokens"], told["gen_ai.request.temperature"]) == (64, 0)
        assert told["gen_ai.response.finish_reasons"] == ["length"]
        assert told["gen_ai.usage.output_tokens"] == 64
        assert told["gen_ai.usage.input_tokens"] > 8
        assert 0 < told["gen_ai.response.time_to_first_chunk"] < one.seconds
        assert told["rpc.response.status_code"] == "OK"


def test_an_embedding_has_its_batch_and_every_process_one_line_of_the_call(traced: TracedMesh) -> None:
    texts = {"texts": [marked("a"), marked("b")]}
    traced.ask("minilm", texts, NOT_SAMPLED)  # the bridge asks for the model's task once
    trace_id = traced.ask("minilm", texts)
    traced.stop()
    worker, *stages = (one for one in traced.spans.of(trace_id) if one.service == "worker-minilm")
    assert worker.attributes["gen_ai.operation.name"] == "embeddings"
    queue, *batches = stages
    assert queue.name == "queue"
    assert {batch.name for batch in batches} == {"batch"}
    assert {batch.attributes["mesh.batch.requests"] for batch in batches} == {1}
    assert len({batch.attributes["mesh.batch.number"] for batch in batches}) == len(batches)
    assert sum(batch.attributes["mesh.batch.rows"] for batch in batches) == 2
    lines = [
        traced.line_of(process, trace_id)
        for process in (traced.bridge, traced.gateway, traced.workers["minilm"])
    ]
    assert len({line["prompt_tokens"] for line in lines}) == 1
    assert lines[0]["prompt_tokens"] > 4
    assert len({line["request_id"] for line in lines}) == 1
    assert [lines[0]["status"], lines[1]["code"], lines[2]["code"]] == [200, "OK", "OK"]
    assert lines[0]["decision"] == lines[1]["decision"]
    assert lines[1]["decision"].startswith("model=minilm")


def test_a_token_opens_the_door_and_is_told_to_nobody(traced: TracedMesh) -> None:
    token = ISSUER_KEY.sign(claims(time.time(), jti=MARK))
    trace_id = traced.ask("minilm", {"texts": [MARK]}, credential=token)
    traced.stop()
    assert traced.line_of(traced.workers["minilm"], trace_id)["code"] == "OK"
    told = traced.spans.of(trace_id)
    assert {one.service for one in told if one.attributes.get("mesh.tenant") == "acme"} == {"gateway"}


def test_the_wait_for_a_turn_is_a_span(traced: TracedMesh) -> None:
    longer = {**CHAT, "max_tokens": 200, "json_schema": DIGITS}
    traced.ask("chat", CHAT, NOT_SAMPLED)  # the bridge asks for the model's task once
    with ThreadPoolExecutor(4) as pool:
        traces = list(pool.map(lambda _: traced.ask("chat", longer), range(4)))
    traced.stop()
    names = [[(one.service, one.name) for one in traced.spans.of(trace_id)] for trace_id in traces]
    assert any(("gateway", "queue") in one for one in names), names


def test_a_call_that_its_caller_does_not_trace_makes_no_span_but_keeps_its_id(traced: TracedMesh) -> None:
    trace_id = traced.ask("minilm", {"texts": [MARK]}, flags=NOT_SAMPLED)
    unasked = httpx.post(
        f"{traced.bridge.url}/api/infer",
        json={"model": "minilm", "payload": {"texts": [MARK]}},
        headers={"x-api-key": traced.key},
        timeout=30,
    )
    assert unasked.status_code == 200
    traced.stop()
    assert traced.spans.kept == []
    assert traced.line_of(traced.workers["minilm"], trace_id)["code"] == "OK"


def test_what_a_wrong_request_holds_is_told_to_nobody_else(traced: TracedMesh) -> None:
    url = f"{traced.bridge.url}/api/infer"
    bodies: list[Any] = [
        {"model": MARK, "payload": {"texts": [MARK]}},
        {"model": "minilm", "payload": {"texts": [MARK], MARK: MARK}},
        {"model": "minilm", "payload": {"prompt": MARK}},
        {"model": "minilm", "version": MARK, "payload": {"texts": [MARK]}},
        {"model": "chat", "payload": {"prompt": MARK, "json_schema": {"type": MARK}}},
        {"model": "chat", "payload": {"messages": [{"role": MARK, "content": MARK}]}},
        {"model": "chat", "payload": {"prompt": MARK * 20_000}},
        {MARK: MARK},
        [MARK],
    ]
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    headers = {"traceparent": parent, "x-api-key": traced.key}
    answers = [httpx.post(url, json=body, headers=headers, timeout=30) for body in bodies]
    headers["x-api-key"] = f"mesh_{MARK}"
    answers += [httpx.post(url, json=bodies[0], headers=headers) for headers in _wrong_credentials()]
    answers.append(httpx.post(f"{url}/{MARK}", params={MARK: MARK}, content=MARK, headers=headers))
    assert {answer.status_code // 100 for answer in answers} == {4}, [answer.text for answer in answers]
    schema = {"type": "object", "properties": {MARK: {"enum": [MARK]}}, "required": [MARK]}
    traced.ask("chat", {"prompt": MARK, "json_schema": schema, "stop": [MARK], "max_tokens": 4})
    traced.stop()
    assert any(one.span.status.code == ERROR for one in traced.spans.kept)


def _write_credentials(folder: Path) -> tuple[str, tuple[str, ...]]:
    """A key, and the flags of a gateway that takes it and the tokens of an issuer."""
    plain, stored = new_key(tenant="acme")
    keys, tenants = folder / "keys.yaml", folder / "tenants.yaml"
    keys.write_text(json.dumps({"keys": [stored.model_dump(mode="json", exclude_defaults=True)]}))
    (folder / "issuer.json").write_text(jwks(ISSUER_KEY))
    issuer = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_file": "issuer.json"}
    tenants.write_text(json.dumps({"tenants": [{"name": "acme"}], "issuers": [issuer]}))
    return plain, ("--keys", str(keys), "--tenants", str(tenants), "--auth", "required")


def _wrong_credentials() -> list[dict[str, str]]:
    """Credentials that nobody takes, in every place where one may stand."""
    late = ISSUER_KEY.sign(claims(time.time() - 10_000, jti=MARK))
    basic = base64.b64encode(f"{MARK}:{new_key()[0]}".encode()).decode()
    return [
        {"x-api-key": f"mesh_{MARK}"},
        {"x-api-key": new_key()[0]},
        {"authorization": f"Bearer {late}"},
        {"authorization": f"Basic {basic}"},
        {"cookie": MARK},
    ]


def _parents(spans: list[Kept]) -> list[int | None]:
    """For each span the place of its parent in the list; None if that is the caller's own."""
    ids = [one.span.span_id for one in spans]
    parents = [one.span.parent_span_id for one in spans]
    return [ids.index(parent) if parent in ids else None for parent in parents]
