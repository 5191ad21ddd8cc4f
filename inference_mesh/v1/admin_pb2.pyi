from inference_mesh.v1 import policy_pb2 as _policy_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CanaryPhase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CANARY_PHASE_UNSPECIFIED: _ClassVar[CanaryPhase]
    CANARY_PHASE_RUNNING: _ClassVar[CanaryPhase]
    CANARY_PHASE_PROMOTED: _ClassVar[CanaryPhase]
    CANARY_PHASE_ROLLED_BACK: _ClassVar[CanaryPhase]
CANARY_PHASE_UNSPECIFIED: CanaryPhase
CANARY_PHASE_RUNNING: CanaryPhase
CANARY_PHASE_PROMOTED: CanaryPhase
CANARY_PHASE_ROLLED_BACK: CanaryPhase

class ListCanariesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListCanariesResponse(_message.Message):
    __slots__ = ("canaries",)
    CANARIES_FIELD_NUMBER: _ClassVar[int]
    canaries: _containers.RepeatedCompositeFieldContainer[Canary]
    def __init__(self, canaries: _Optional[_Iterable[_Union[Canary, _Mapping]]] = ...) -> None: ...

class PromoteCanaryRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class PromoteCanaryResponse(_message.Message):
    __slots__ = ("canary",)
    CANARY_FIELD_NUMBER: _ClassVar[int]
    canary: Canary
    def __init__(self, canary: _Optional[_Union[Canary, _Mapping]] = ...) -> None: ...

class AbortCanaryRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class AbortCanaryResponse(_message.Message):
    __slots__ = ("canary",)
    CANARY_FIELD_NUMBER: _ClassVar[int]
    canary: Canary
    def __init__(self, canary: _Optional[_Union[Canary, _Mapping]] = ...) -> None: ...

class Canary(_message.Message):
    __slots__ = ("model", "version", "stable_version", "phase", "step", "steps", "weight", "step_age_s", "canary", "stable", "reason", "shared")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STABLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    STEP_AGE_S_FIELD_NUMBER: _ClassVar[int]
    CANARY_FIELD_NUMBER: _ClassVar[int]
    STABLE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    stable_version: str
    phase: CanaryPhase
    step: int
    steps: int
    weight: float
    step_age_s: float
    canary: CanarySample
    stable: CanarySample
    reason: str
    shared: bool
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., stable_version: _Optional[str] = ..., phase: _Optional[_Union[CanaryPhase, str]] = ..., step: _Optional[int] = ..., steps: _Optional[int] = ..., weight: _Optional[float] = ..., step_age_s: _Optional[float] = ..., canary: _Optional[_Union[CanarySample, _Mapping]] = ..., stable: _Optional[_Union[CanarySample, _Mapping]] = ..., reason: _Optional[str] = ..., shared: _Optional[bool] = ...) -> None: ...

class CanarySample(_message.Message):
    __slots__ = ("requests", "errors", "p99_s", "first_token_s")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    P99_S_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_S_FIELD_NUMBER: _ClassVar[int]
    requests: int
    errors: int
    p99_s: float
    first_token_s: float
    def __init__(self, requests: _Optional[int] = ..., errors: _Optional[int] = ..., p99_s: _Optional[float] = ..., first_token_s: _Optional[float] = ...) -> None: ...

class GetShadowReportRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class GetShadowReportResponse(_message.Message):
    __slots__ = ("primary", "shadow", "compared", "agreed", "dropped", "failed", "differences")
    PRIMARY_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FIELD_NUMBER: _ClassVar[int]
    AGREED_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    primary: _policy_pb2.Target
    shadow: _policy_pb2.Target
    compared: int
    agreed: int
    dropped: int
    failed: int
    differences: _containers.RepeatedCompositeFieldContainer[ShadowDifference]
    def __init__(self, primary: _Optional[_Union[_policy_pb2.Target, _Mapping]] = ..., shadow: _Optional[_Union[_policy_pb2.Target, _Mapping]] = ..., compared: _Optional[int] = ..., agreed: _Optional[int] = ..., dropped: _Optional[int] = ..., failed: _Optional[int] = ..., differences: _Optional[_Iterable[_Union[ShadowDifference, _Mapping]]] = ...) -> None: ...

class ShadowDifference(_message.Message):
    __slots__ = ("request_id", "at_s", "measure", "value")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    AT_S_FIELD_NUMBER: _ClassVar[int]
    MEASURE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    at_s: float
    measure: str
    value: float
    def __init__(self, request_id: _Optional[str] = ..., at_s: _Optional[float] = ..., measure: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
