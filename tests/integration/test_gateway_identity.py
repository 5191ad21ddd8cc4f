"""Who may call, through a real gateway: tokens, tenants of a file, and client certificates."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from cryptography import x509

from inference_mesh.config.keys_file import new_key
from inference_mesh.error_status import error_from_rpc
from inference_mesh.errors import UnauthenticatedError
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc
from tests.support.certificates import Authority
from tests.support.gateways import entry, facts, prompt, running_gateway, running_worker, status_of
from tests.support.tokens import AUDIENCE, ISSUER, claims, jwks, rsa_key, signed_by_secret, unsigned

RSA = rsa_key("one")


def write_tenants(folder: Path, *tenants: dict[str, Any]) -> Path:
    """A tenants file with one issuer, whose key is "one"."""
    (folder / "jwks.json").write_text(jwks(RSA))
    issuer = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_file": "jwks.json"}
    path = folder / "tenants.yaml"
    path.write_text(yaml.safe_dump({"tenants": list(tenants), "issuers": [issuer]}))
    return path


def bearer(text: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {text}"),)


async def test_every_token_that_is_not_to_be_believed_reads_the_same(tmp_path: Path) -> None:
    """B2.1; the checks one by one are in tests/unit/gateway/identity/test_tokens.py."""
    now_s = time.time()
    wrong = [
        unsigned(claims(now_s), kid="one"),
        signed_by_secret(claims(now_s), RSA.public_pem, kid="one"),
        *(RSA.sign(claims(now_s, **{name: None})) for name in ("exp", "aud", "iss", "tenant")),
        RSA.sign(claims(now_s, nbf=now_s + 120)),
        RSA.sign(claims(now_s, exp=now_s - 120)),
        RSA.sign(claims(now_s), kid="../../dev/null"),
        rsa_key("two").sign(claims(now_s), kid="one", jku="http://127.0.0.1:9/", jwk=rsa_key("two").jwk),
        new_key()[0],
        "",
    ]
    tenants = write_tenants(tmp_path, {"name": "acme"})
    async with (
        running_worker("one") as one,
        running_gateway(tmp_path, [entry("one", one)], tenants=tenants) as mesh,
    ):
        seen = set()
        for text in wrong:
            status = await status_of(mesh.stub.Infer(prompt("one"), metadata=bearer(text)))
            assert isinstance(error_from_rpc(status), UnauthenticatedError)
            seen.add(status.details())
        await mesh.stub.Infer(prompt("one"), metadata=bearer(RSA.sign(claims(now_s))))
    assert len(seen) == 1
    assert one.calls == 1


async def test_a_megabyte_as_a_credential_never_reaches_a_worker(tmp_path: Path) -> None:
    tenants = write_tenants(tmp_path, {"name": "acme"})
    async with (
        running_worker("one") as one,
        running_gateway(tmp_path, [entry("one", one)], tenants=tenants) as mesh,
    ):
        token = RSA.sign(claims(time.time(), padding="x" * 1_000_000))
        status = await status_of(mesh.stub.Infer(prompt("one"), metadata=bearer(token)))
        await mesh.stub.Infer(prompt("one"), metadata=bearer(RSA.sign(claims(time.time()))))
    assert status.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert one.calls == 1


async def test_a_tenant_sees_its_own_models_and_the_others_are_not_there(tmp_path: Path) -> None:
    tenants = write_tenants(tmp_path, {"name": "acme", "models": ["one"]}, {"name": "blue"})
    async with (
        running_worker("one") as one,
        running_worker("two") as two,
        running_gateway(tmp_path, [entry("one", one), entry("two", two)], tenants=tenants) as mesh,
    ):
        listed = {}
        for tenant in ("acme", "blue"):
            credential = bearer(RSA.sign(claims(time.time(), tenant=tenant)))
            answer = await mesh.stub.ListModels(inference_pb2.ListModelsRequest(), metadata=credential)
            listed[tenant] = [model.name for model in answer.models]
        acme = bearer(RSA.sign(claims(time.time())))
        refused = await status_of(mesh.stub.Infer(prompt("two"), metadata=acme))
        unknown = await status_of(mesh.stub.Infer(prompt("six"), metadata=acme))
    assert listed == {"acme": ["one"], "blue": ["one", "two"]}
    assert (refused.code(), (refused.details() or "").replace("two", "six")) == (
        unknown.code(),
        unknown.details(),
    )
    assert two.calls == 0


async def test_a_clients_own_headers_make_it_nobody_else(tmp_path: Path) -> None:
    tenants = write_tenants(tmp_path, {"name": "acme"}, {"name": "blue"})
    names = ("x-tenant", "x-user-id", "x-forwarded-user", "x-auth-request-user", "x-consumer-id")
    forged = (("x-mesh-tenant", "blue"), *((name, "blue") for name in names))
    async with (
        running_worker("one") as one,
        running_gateway(tmp_path, [entry("one", one)], tenants=tenants) as mesh,
    ):
        told = []
        for tenant, more in (("acme", ()), ("acme", forged), ("blue", ())):
            credential = bearer(RSA.sign(claims(time.time(), tenant=tenant)))
            answer = await mesh.stub.Infer(prompt("one"), metadata=(*credential, *more))
            assert not set(names) & set(facts(answer)["metadata"]), "nor does a worker hear of them"
            told.append(facts(answer)["metadata"]["x-mesh-tenant"])
    assert told[0] == told[1] != told[2]


async def test_a_new_tenant_is_served_within_two_seconds(tmp_path: Path) -> None:
    tenants = write_tenants(tmp_path, {"name": "acme"})
    async with (
        running_worker("one") as one,
        running_gateway(tmp_path, [entry("one", one)], tenants=tenants) as mesh,
    ):
        blue = bearer(RSA.sign(claims(time.time(), tenant="blue")))
        status = await status_of(mesh.stub.Infer(prompt("one"), metadata=blue))
        assert status.code() is grpc.StatusCode.UNAUTHENTICATED
        write_tenants(tmp_path, {"name": "acme"}, {"name": "blue"})
        async with asyncio.timeout(2):
            while await mesh.stub.Infer(prompt("one"), metadata=blue).code() is not grpc.StatusCode.OK:
                await asyncio.sleep(0.05)


async def test_a_certificate_is_a_tenant_and_another_one_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, private_key = authority.sign_server("server")
    tenants = write_tenants(tmp_path, {"name": "acme", "certificates": ["jobs.example"]})
    tls = {"tls_cert": certificate, "tls_key": private_key, "tls_client_ca": authority.path}
    async with (
        running_worker("one") as one,
        running_gateway(tmp_path, [entry("one", one)], tenants=tenants, **tls) as mesh,
    ):
        codes = {}
        for name in ("jobs", "other"):
            client, client_key = authority.sign(name, x509.DNSName(f"{name}.example"))
            credentials = grpc.ssl_channel_credentials(
                authority.pem, client_key.read_bytes(), client.read_bytes()
            )
            address = f"127.0.0.1:{mesh.gateway.grpc_port}"
            async with grpc.aio.secure_channel(address, credentials) as channel:
                stub: Any = inference_pb2_grpc.InferenceServiceStub(channel)
                codes[name] = await stub.Infer(prompt("one"), timeout=5).code()
    assert codes == {"jobs": grpc.StatusCode.OK, "other": grpc.StatusCode.UNAUTHENTICATED}


async def test_no_credential_stands_in_a_log_line_or_a_metric(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain, key = new_key(tenant="acme")
    (tmp_path / "keys.yaml").write_text(yaml.safe_dump({"keys": [key.model_dump(mode="json")]}))
    good, wrong = RSA.sign(claims(time.time())), rsa_key("two").sign(claims(time.time()))
    tenants = write_tenants(tmp_path, {"name": "acme"})
    async with (
        running_worker("one") as one,
        running_gateway(tmp_path, [entry("one", one)], tenants=tenants, keys=tmp_path / "keys.yaml") as mesh,
    ):
        for text in (plain, good, wrong, plain[:-1]):
            await mesh.stub.Infer(prompt("one"), metadata=bearer(text)).code()
        samples = [sample for metric in mesh.gateway.metrics.registry.collect() for sample in metric.samples]
    everything = str(samples) + "".join(str(vars(record)) for record in caplog.records)
    for text in (plain.rpartition("_")[2], good, wrong):
        assert text[-40:] not in everything
