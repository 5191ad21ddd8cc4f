from inference_mesh.v1 import payload_pb2 as _payload_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExplainRequest(_message.Message):
    __slots__ = ("model", "version", "payload", "sticky_key")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    STICKY_KEY_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    payload: _payload_pb2.Payload
    sticky_key: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., payload: _Optional[_Union[_payload_pb2.Payload, _Mapping]] = ..., sticky_key: _Optional[str] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("tenant", "key_id", "priority", "target", "rule", "fallback", "prompt_tokens", "completion_tokens", "limits", "expected_wait_s", "replicas", "refusal")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    FALLBACK_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    COMPLETION_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_WAIT_S_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    key_id: str
    priority: str
    target: Target
    rule: str
    fallback: _containers.RepeatedScalarFieldContainer[str]
    prompt_tokens: int
    completion_tokens: int
    limits: _containers.RepeatedCompositeFieldContainer[LimitStanding]
    expected_wait_s: float
    replicas: _containers.RepeatedCompositeFieldContainer[Replica]
    refusal: Refusal
    def __init__(self, tenant: _Optional[str] = ..., key_id: _Optional[str] = ..., priority: _Optional[str] = ..., target: _Optional[_Union[Target, _Mapping]] = ..., rule: _Optional[str] = ..., fallback: _Optional[_Iterable[str]] = ..., prompt_tokens: _Optional[int] = ..., completion_tokens: _Optional[int] = ..., limits: _Optional[_Iterable[_Union[LimitStanding, _Mapping]]] = ..., expected_wait_s: _Optional[float] = ..., replicas: _Optional[_Iterable[_Union[Replica, _Mapping]]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class Target(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class LimitStanding(_message.Message):
    __slots__ = ("name", "kind", "limit", "remaining", "window_s", "reset_s", "degraded")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    WINDOW_S_FIELD_NUMBER: _ClassVar[int]
    RESET_S_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: str
    limit: float
    remaining: float
    window_s: float
    reset_s: float
    degraded: bool
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[str] = ..., limit: _Optional[float] = ..., remaining: _Optional[float] = ..., window_s: _Optional[float] = ..., reset_s: _Optional[float] = ..., degraded: _Optional[bool] = ...) -> None: ...

class Replica(_message.Message):
    __slots__ = ("address", "available", "outstanding", "weight", "home")
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    OUTSTANDING_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    HOME_FIELD_NUMBER: _ClassVar[int]
    address: str
    available: bool
    outstanding: int
    weight: float
    home: bool
    def __init__(self, address: _Optional[str] = ..., available: _Optional[bool] = ..., outstanding: _Optional[int] = ..., weight: _Optional[float] = ..., home: _Optional[bool] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "reason", "message", "retry_after_s")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRY_AFTER_S_FIELD_NUMBER: _ClassVar[int]
    code: str
    reason: str
    message: str
    retry_after_s: float
    def __init__(self, code: _Optional[str] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ..., retry_after_s: _Optional[float] = ...) -> None: ...
