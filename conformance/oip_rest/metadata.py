"""What a model says of itself, which clients read to write their requests."""

from __future__ import annotations

from typing import Any

from conformance.checks import NotApplicableError, expect, expect_same, shown
from conformance.http_answers import Json, member
from conformance.oip_rest.refused import expect_error
from conformance.oip_rest.server import INDEX, OIP_REST, UNKNOWN_MODEL, OipRestServer, path_of
from conformance.oip_rest.tensors import KNOWN_DATATYPES


@OIP_REST.check
async def metadata_describes_each_tensor(server: OipRestServer) -> None:
    """Metadata has name, platform, and inputs and outputs with name, a known datatype and sizes from -1."""
    name = (await server.numeric_model())["name"]
    document = await server.described(name)
    expect_same(member(document, "name", str), name, "name")
    member(document, "platform", str)
    for side in ("inputs", "outputs"):
        tensors = member(document, side, list)
        expect(tensors, f"'{side}' is empty")
        for tensor in tensors:
            _expect_tensor(tensor)


@OIP_REST.check
async def versions_are_texts(server: OipRestServer) -> None:
    """versions, where a model has them, is a list of texts that are not empty."""
    versions = await _versions(server)
    expect(all(isinstance(one, str) and one for one in versions), f"versions are {shown(versions)}")


@OIP_REST.check
async def metadata_of_a_version_is_that_of_the_model(server: OipRestServer) -> None:
    """GET …/versions/{v} has the name of the model, for a version that it lists."""
    versions = await _versions(server)
    name = (await server.numeric_model())["name"]
    document = await server.get(path_of(name, version=versions[-1]))
    expect_same(member(document, "name", str), name, "name")


@OIP_REST.check
async def metadata_is_the_same_each_time(server: OipRestServer) -> None:
    """Metadata asked for eight times has the same versions, inputs and outputs."""
    name = (await server.numeric_model())["name"]
    first, *others = [await server.described(name) for _ in range(8)]
    for other in others:
        for part in ("versions", "inputs", "outputs"):
            expect_same(other.get(part), first.get(part), f"'{part}', asked for again,")


@OIP_REST.check
async def the_index_and_the_metadata_list_the_same_versions(server: OipRestServer) -> None:
    """The versions of a model that the repository's index calls ready are those of its metadata."""
    model = await server.numeric_model()
    response = await server.http.post(INDEX, json={"ready": True})
    if response.status_code != 200:
        raise NotApplicableError("the server has no index of its models, which is an extension")
    listed = [one for one in response.json() if one["name"] == model["name"]]
    found = sorted(one["version"] for one in listed if one.get("version"))
    expect_same(found, sorted(model.get("versions") or []), "versions in the index")


@OIP_REST.check
async def an_unknown_model_has_no_metadata(server: OipRestServer) -> None:
    """GET of no model's metadata is a 4xx with an error."""
    expect_error(await server.http.get(path_of(UNKNOWN_MODEL)))


@OIP_REST.check
async def an_unknown_version_has_no_metadata(server: OipRestServer) -> None:
    """GET of the metadata of a version that does not exist is a 4xx with an error."""
    name = (await server.numeric_model())["name"]
    expect_error(await server.http.get(path_of(name, version="999999999")))


async def _versions(server: OipRestServer) -> list[Any]:
    model = await server.numeric_model()
    versions: list[Any] = model.get("versions") or []
    if not versions:
        raise NotApplicableError(f"the model '{model['name']}' lists no versions, which are optional")
    return versions


def _expect_tensor(tensor: Json) -> None:
    name = member(tensor, "name", str)
    datatype = member(tensor, "datatype", str)
    expect(datatype in KNOWN_DATATYPES, f"datatype of '{name}' is {datatype!r}")
    shape = member(tensor, "shape", list)
    fits = all(type(size) is int and size >= -1 for size in shape)
    expect(fits, f"shape of '{name}' is {shown(shape)}")
