"""Keys, rates and who is let in, over the wire."""

from __future__ import annotations

import asyncio
import base64
import datetime
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from inference_mesh.config.keys_file import ApiKey, new_key
from inference_mesh.error_status import error_from_rpc
from inference_mesh.errors import ForbiddenError, RateLimitedError, UnauthenticatedError
from inference_mesh.metadata import RETRY_PUSHBACK, value_of
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.oip import open_inference_pb2_grpc as oip_grpc
from inference_mesh.v1 import inference_pb2
from tests.support.gateways import entry, facts, prompt, running_gateway, running_worker, status_of


def write_keys(path: Path, *keys: ApiKey) -> Path:
    path.write_text(yaml.safe_dump({"keys": [key.model_dump(mode="json") for key in keys]}))
    return path


async def test_missing_and_wrong_keys_read_the_same(tmp_path: Path) -> None:
    plain, key = new_key()
    other, _ = new_key()
    wrong_secret = plain[:-4] + ("aaaa" if not plain.endswith("aaaa") else "bbbb")
    expired_plain, expired = new_key()
    past = datetime.datetime(2001, 1, 1, tzinfo=datetime.UTC)
    keys = write_keys(tmp_path / "keys.yaml", key, expired.model_copy(update={"expires": past}))
    seen = set()
    async with (
        running_worker("one") as one,
        running_gateway(tmp_path, [entry("one", one)], keys=keys) as mesh,
    ):
        for credential in (None, "", "junk", other, wrong_secret, expired_plain, "x" * 3000):
            metadata = (("x-api-key", credential),) if credential is not None else ()
            status = await status_of(mesh.stub.Infer(prompt("one"), metadata=metadata))
            assert isinstance(error_from_rpc(status), UnauthenticatedError)
            seen.add(status.details())
        status = await status_of(mesh.stub.ListModels(inference_pb2.ListModelsRequest()))
        seen.add(status.details())
    assert len(seen) == 1
    assert one.calls == 0


@pytest.mark.parametrize("form", ["bearer", "basic", "x-api-key"])
async def test_a_key_is_taken_in_each_of_its_forms(tmp_path: Path, form: str) -> None:
    plain, key = new_key(tenant="blue")
    basic = base64.b64encode(f"user:{plain}".encode()).decode()
    metadata = {
        "bearer": (("authorization", f"Bearer {plain}"),),
        "basic": (("authorization", f"Basic {basic}"),),
        "x-api-key": (("x-api-key", plain),),
    }[form]
    keys = write_keys(tmp_path / "keys.yaml", key)
    async with (
        running_worker("one") as one,
        running_gateway(tmp_path, [entry("one", one)], keys=keys) as mesh,
    ):
        seen = facts(await mesh.stub.Infer(prompt("one"), metadata=metadata))["metadata"]
        await mesh.stub.ListModels(inference_pb2.ListModelsRequest(), metadata=metadata)
    assert "blue" not in seen["x-mesh-tenant"]
    assert plain not in str(seen)


async def test_required_without_keys_refuses_every_call_and_readyz_says_why(tmp_path: Path) -> None:
    async with running_worker("one") as one:
        async with running_gateway(tmp_path, [entry("one", one)], auth="required") as mesh:
            status = await status_of(mesh.stub.Infer(prompt("one")))
            readiness = mesh.gateway.readiness()
    assert status.code() is grpc.StatusCode.UNAUTHENTICATED
    assert not readiness.is_ready
    assert "no keys" in readiness.detail["keys"]


async def test_health_reflection_and_liveness_need_no_key(tmp_path: Path) -> None:
    async with running_worker("one") as one:
        models = [entry("one", one), entry("down", "127.0.0.1:9")]
        async with running_gateway(tmp_path, models, auth="required") as mesh:
            health: Any = health_pb2_grpc.HealthStub(mesh.channel)
            statuses = [
                (await health.Check(health_pb2.HealthCheckRequest(service=name))).status
                for name in ("", "one", "down")
            ]
            listed = await health.List(health_pb2.HealthListRequest())  # type: ignore[attr-defined]
            live = await oip_grpc.GRPCInferenceServiceStub(mesh.channel).ServerLive(oip.ServerLiveRequest())
            channel: Any = mesh.channel
            stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
            asked = reflection_pb2.ServerReflectionRequest(list_services="")
            reflected = [answer async for answer in stub.ServerReflectionInfo(iter([asked]))]
    assert statuses == [1, 1, 2]
    assert sorted(listed.statuses) == ["", "down", "one"]
    assert live.live
    names = {service.name for service in reflected[0].list_services_response.service}
    assert {"inference_mesh.v1.InferenceService", "inference.GRPCInferenceService"} <= names


async def test_health_watch_tells_when_the_last_replica_goes(tmp_path: Path) -> None:
    async with running_worker("one") as one, running_gateway(tmp_path, [entry("one", one)]) as mesh:
        health: Any = health_pb2_grpc.HealthStub(mesh.channel)
        call = health.Watch(health_pb2.HealthCheckRequest(service="one"))
        async with asyncio.timeout(5):
            first = (await call.read()).status
            await one.drain()
            second = (await call.read()).status
        call.cancel()
    assert (first, second) == (1, 2)


async def test_a_key_over_its_rate_is_told_when_to_come_back(tmp_path: Path) -> None:
    plain, key = new_key()
    limited = key.model_copy(update={"requests_per_second": 0.5, "burst": 3})
    free_plain, free = new_key()
    keys = write_keys(tmp_path / "keys.yaml", limited, free)
    metadata = (("x-api-key", plain),)
    async with (
        running_worker("one") as one,
        running_gateway(tmp_path, [entry("one", one)], keys=keys) as mesh,
    ):
        for _ in range(3):
            await mesh.stub.Infer(prompt("one"), metadata=metadata)
        status = await status_of(mesh.stub.Infer(prompt("one"), metadata=metadata))
        await mesh.stub.Infer(prompt("one"), metadata=(("x-api-key", free_plain),))
    error = error_from_rpc(status)
    assert isinstance(error, RateLimitedError)
    assert 0 < (error.retry_after_s or 0) <= 2
    assert 0 < int(value_of(tuple(status.trailing_metadata()), RETRY_PUSHBACK) or 0) <= 2000


async def test_a_key_without_the_scope_may_not_infer(tmp_path: Path) -> None:
    plain, key = new_key(scopes=("admin",))
    keys = write_keys(tmp_path / "keys.yaml", key)
    async with (
        running_worker("one") as one,
        running_gateway(tmp_path, [entry("one", one)], keys=keys) as mesh,
    ):
        status = await status_of(mesh.stub.Infer(prompt("one"), metadata=(("x-api-key", plain),)))
    assert isinstance(error_from_rpc(status), ForbiddenError)


async def test_a_new_key_works_within_two_seconds_and_a_removed_one_no_more(tmp_path: Path) -> None:
    plain, key = new_key()
    next_plain, next_key = new_key()
    keys = write_keys(tmp_path / "keys.yaml", key)
    async with (
        running_worker("one") as one,
        running_gateway(tmp_path, [entry("one", one)], keys=keys) as mesh,
    ):
        await mesh.stub.Infer(prompt("one"), metadata=(("x-api-key", plain),))
        write_keys(keys, next_key)
        async with asyncio.timeout(2):
            while (
                await mesh.stub.Infer(prompt("one"), metadata=(("x-api-key", next_plain),)).code()
            ).name != "OK":
                await asyncio.sleep(0.05)
        status = await status_of(mesh.stub.Infer(prompt("one"), metadata=(("x-api-key", plain),)))
    assert status.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_key_that_is_revoked_sends_no_more_on_an_open_stream(tmp_path: Path) -> None:
    plain, key = new_key()
    keys = write_keys(tmp_path / "keys.yaml", key)
    async with (
        running_worker("one") as one,
        running_gateway(tmp_path, [entry("one", one)], keys=keys) as mesh,
    ):
        stub: Any = oip_grpc.GRPCInferenceServiceStub(mesh.channel)
        call = stub.ModelStreamInfer(metadata=(("x-api-key", plain),))
        await call.write(oip.ModelInferRequest(model_name="one", id="before"))
        assert (await call.read()).infer_response.id == "before"
        write_keys(keys)
        reloads = "mesh_gateway_keys_reloads_total"
        async with asyncio.timeout(5):
            while mesh.metric(reloads, result="success") < 2:
                await asyncio.sleep(0.02)
        await call.write(oip.ModelInferRequest(model_name="one", id="after"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await asyncio.wait_for(call.read(), 5)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert one.calls == 1


async def test_without_a_key_file_no_reading_of_it_has_failed(tmp_path: Path) -> None:
    async with running_worker("one") as one, running_gateway(tmp_path, [entry("one", one)]) as mesh:
        assert mesh.metric("mesh_gateway_keys_last_reload_successful") == 1


async def test_a_stream_of_requests_is_paced_to_its_keys_rate(tmp_path: Path) -> None:
    plain, key = new_key()
    keys = write_keys(tmp_path / "keys.yaml", key.model_copy(update={"requests_per_second": 10, "burst": 2}))
    async with (
        running_worker("one") as one,
        running_gateway(tmp_path, [entry("one", one)], keys=keys) as mesh,
    ):
        stub: Any = oip_grpc.GRPCInferenceServiceStub(mesh.channel)
        requests = [oip.ModelInferRequest(model_name="one", id=str(number)) for number in range(8)]
        started = time.monotonic()
        call = stub.ModelStreamInfer(iter(requests), metadata=(("x-api-key", plain),))
        answers = [answer.infer_response.id async for answer in call]
    assert len(answers) == 8
    assert time.monotonic() - started > 0.5
