"""Whether a server and its models are there, and what it says of itself."""

from __future__ import annotations

from conformance.checks import expect
from conformance.http_answers import expect_status, member
from conformance.oip_rest.server import OIP_REST, UNKNOWN_MODEL, OipRestServer, path_of


@OIP_REST.check
async def a_server_is_live(server: OipRestServer) -> None:
    """GET /v2/health/live is 200."""
    expect_status(await server.http.get("/v2/health/live"), 200)


@OIP_REST.check
async def a_server_is_ready(server: OipRestServer) -> None:
    """GET /v2/health/ready is 200."""
    expect_status(await server.http.get("/v2/health/ready"), 200)


@OIP_REST.check
async def a_server_tells_its_name_version_and_extensions(server: OipRestServer) -> None:
    """GET /v2 has the texts name and version, and the list of names extensions."""
    document = await server.get("/v2")
    expect(member(document, "name", str), "'name' is empty")
    expect(member(document, "version", str), "'version' is empty")
    extensions = member(document, "extensions", list)
    expect(all(isinstance(one, str) for one in extensions), f"extensions are {extensions}")


@OIP_REST.check
async def a_model_is_ready(server: OipRestServer) -> None:
    """GET …/ready of a model is 200."""
    model = await server.numeric_model()
    expect_status(await server.http.get(path_of(model["name"], "ready")), 200)


@OIP_REST.check
async def an_unknown_model_is_not_ready(server: OipRestServer) -> None:
    """GET …/ready of no model is a refusal, or 503."""
    response = await server.http.get(path_of(UNKNOWN_MODEL, "ready"))
    status = response.status_code
    expect(400 <= status < 500 or status == 503, f"status {status}; a 4xx or 503 was expected")
