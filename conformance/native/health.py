"""Health: what probes, load balancers and gRPC clients with health checking ask."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2

from conformance.checks import expect_same, shown
from conformance.doors import refused
from conformance.native.server import NATIVE, NativeServer

SERVING = health_pb2.HealthCheckResponse.SERVING
UNKNOWN_SERVICE = health_pb2.HealthCheckRequest(service="conformance.v1.NoSuchService")


@NATIVE.check
async def health_check_of_the_server(server: NativeServer) -> None:
    """Health.Check of the empty name says SERVING, without credentials."""
    answer = await server.health.Check(health_pb2.HealthCheckRequest())
    expect_same(_name(answer.status), "SERVING", "status")


@NATIVE.check
async def health_check_of_an_unknown_service(server: NativeServer) -> None:
    """Health.Check of a service that does not exist ends with NOT_FOUND."""
    await refused(server.health.Check(UNKNOWN_SERVICE), grpc.StatusCode.NOT_FOUND)


@NATIVE.check
async def health_watch_answers_at_once(server: NativeServer) -> None:
    """The first message of Health.Watch is the present status."""
    call = server.health.Watch(health_pb2.HealthCheckRequest())
    first = await call.read()
    call.cancel()
    expect_same(_name(first.status), "SERVING", "the first status")


@NATIVE.check
async def health_watch_of_an_unknown_service(server: NativeServer) -> None:
    """Health.Watch of a service that does not exist says SERVICE_UNKNOWN and stays open."""
    call = server.health.Watch(UNKNOWN_SERVICE)
    first = await call.read()
    call.cancel()
    expect_same(_name(first.status), "SERVICE_UNKNOWN", "the first status")


def _name(status: int) -> str:
    known = health_pb2.HealthCheckResponse.ServingStatus
    return known.Name(status) if status in known.values() else shown(status)
