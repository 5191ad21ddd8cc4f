"""What the gateway says of a model in Triton's forms: its configuration and its statistics. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.model_statistics import Count, ModelCounts
from inference_mesh.config.models_file import ModelEntry
from inference_mesh.oip import open_inference_pb2 as oip

EXTENSIONS = ("model_configuration", "model_repository", "parameters", "statistics")
"""Triton's names of what is spoken beside the protocol itself. It has no name for ModelStreamInfer.

`schedule_policy` is missing: what a request says of its own priority is not obeyed.
"""

BACKENDS = {"onnxruntime_onnx": "onnxruntime"}
"""Of each platform that is not called as its engine."""

TYPES: dict[str, oip.DataType] = {
    "BOOL": oip.TYPE_BOOL,
    "UINT8": oip.TYPE_UINT8,
    "UINT16": oip.TYPE_UINT16,
    "UINT32": oip.TYPE_UINT32,
    "UINT64": oip.TYPE_UINT64,
    "INT8": oip.TYPE_INT8,
    "INT16": oip.TYPE_INT16,
    "INT32": oip.TYPE_INT32,
    "INT64": oip.TYPE_INT64,
    "FP16": oip.TYPE_FP16,
    "FP32": oip.TYPE_FP32,
    "FP64": oip.TYPE_FP64,
    "BYTES": oip.TYPE_STRING,
    "BF16": oip.TYPE_BF16,
}
"""Triton's number of each datatype."""

LARGEST_VERSION = 2**63 - 1


def with_versions(metadata: oip.ModelMetadataResponse, entry: ModelEntry) -> oip.ModelMetadataResponse:
    """What a worker says of a model, with all versions of the registry: the worker knows its own alone."""
    listed = [variant.version for variant in entry.variants if variant.version]
    if listed:
        metadata.versions[:] = listed
    return metadata


def config_of(metadata: oip.ModelMetadataResponse, entry: ModelEntry) -> oip.ModelConfig:
    """The configuration of a model, by what its worker says and what the registry has."""
    config = oip.ModelConfig(
        name=metadata.name,
        platform=metadata.platform,
        backend=BACKENDS.get(metadata.platform, metadata.platform),
    )
    for spec in metadata.inputs:
        config.input.add(name=spec.name, data_type=_type_of(spec), dims=spec.shape)
    for spec in metadata.outputs:
        config.output.add(name=spec.name, data_type=_type_of(spec), dims=spec.shape)
    for name, value in metadata.properties.items():
        config.parameters[name].string_value = value
    config.model_transaction_policy.decoupled = metadata.properties.get("task") == "generate"
    versions = _numbers(variant.version for variant in entry.variants)
    if versions:
        config.version_policy.specific.versions.extend(versions)
    return config


def statistics_of(model: str, version: str, counts: ModelCounts) -> oip.ModelStatistics:
    """The statistics of one version."""
    return oip.ModelStatistics(
        name=model,
        version=version,
        last_inference=int(counts.last_end_s * 1e3),
        inference_count=counts.computed.calls,
        execution_count=counts.computed.calls,
        inference_stats=oip.InferStatistics(
            success=_duration(counts.succeeded),
            fail=_duration(counts.failed),
            queue=_duration(counts.queued),
            compute_input=oip.StatisticDuration(),
            compute_infer=_duration(counts.computed),
            compute_output=oip.StatisticDuration(),
            cache_hit=_duration(counts.cache_hit),
            cache_miss=_duration(counts.cache_miss),
        ),
    )


def _type_of(spec: oip.ModelMetadataResponse.TensorMetadata) -> oip.DataType:
    return TYPES.get(spec.datatype, oip.TYPE_INVALID)


def _numbers(versions: Iterable[str]) -> list[int]:
    """The versions as numbers; none at all unless every one is a number."""
    numbers = []
    for version in versions:
        if not (version.isascii() and version.isdecimal() and int(version) <= LARGEST_VERSION):
            return []
        numbers.append(int(version))
    return numbers


def _duration(count: Count) -> oip.StatisticDuration:
    return oip.StatisticDuration(count=count.calls, ns=round(count.seconds * 1e9))
