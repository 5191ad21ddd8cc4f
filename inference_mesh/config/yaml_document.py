"""YAML documents whose values know the line they stand on, checked against a schema.

Owns reading, line numbers and the sentences for wrong values. Does not own any schema.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from inference_mesh.config.errors import ConfigError, Problem

MAX_FILE_BYTES = 4 * 1024 * 1024
"""Room for 20,000 keys or models with all that they may have."""
MAX_DEPTH = 64
"""Far more than any schema has; libyaml's recursion ends the process at some ten thousand."""

M = TypeVar("M", bound=BaseModel)
Path = tuple[int | str, ...]


_SENTENCES = {"tuple_type": "must be a list", "model_type": "must be a mapping of keys to values"}


_Loader: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML was built with it: four times as fast."""


class _UniqueKeyLoader(_Loader):  # type: ignore[valid-type,misc]
    """Refuses keys that are no texts or stand twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a text", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key '{key.value}' stands twice", key.start_mark
                )
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


class YamlDocument:
    """A parsed document that can say on which line a path stands."""

    def __init__(self, text: str, source: str) -> None:
        """Raises ConfigError if the text is too large, not YAML, or has a key twice."""
        self.source = source
        if len(text) > MAX_FILE_BYTES:
            raise ConfigError(source, (Problem("", f"is larger than {MAX_FILE_BYTES} bytes"),))
        try:
            node, self.value = _loaded(text)
        except yaml.MarkedYAMLError as error:
            # libyaml puts the end of a text without a last line break on the line after it.
            line = min(error.problem_mark.line, text.count("\n")) + 1 if error.problem_mark else 0
            raise ConfigError(source, (Problem("", f"not valid YAML: {error.problem}", line),)) from None
        except (yaml.YAMLError, RecursionError, ValueError) as error:
            raise ConfigError(source, (Problem("", f"not valid YAML: {str(error)[:200]}"),)) from None
        except (AttributeError, LookupError, TypeError):  # what PyYAML raises for `!!int ''` and its like
            raise ConfigError(source, (Problem("", "not valid YAML: a value is not of its tag"),)) from None
        self._node = node
        self._prefix: Path = ()

    def nest_under(self, key: str) -> None:
        """Treat the document as if it stood under a key: a bare list becomes `{key: [...]}`."""
        self.value = {key: self.value}
        self._prefix = (key, *self._prefix)

    def line_of(self, path: Path) -> int:
        """Line of a path, or of its nearest parent; 0 if the document is empty."""
        if self._node is None:
            return 0
        if path[: len(self._prefix)] != self._prefix:
            return 1
        return _line(self._node, path[len(self._prefix) :])

    def validated(self, schema: type[M], value: Any, prefix: Path = ()) -> M:
        """The value as the schema's model. Raises ConfigError with every problem and its line."""
        try:
            return schema.model_validate(value)
        except ValidationError as error:
            raise ConfigError(self.source, tuple(self._problems(schema, error, prefix))) from None

    def validated_each(self, schema: type[M], entries: Iterable[Any], prefix: Path) -> tuple[M, ...]:
        """Each entry of a long list as the schema's model, as `validated` does it.

        One at a time, because pydantic holds Python's lock: ten thousand at once stop the event
        loop of whoever reads a file in a thread for 40 ms.
        """
        good: list[M] = []
        problems: list[Problem] = []
        for index, entry in enumerate(entries):
            try:
                good.append(schema.model_validate(entry))
            except ValidationError as error:
                problems += self._problems(schema, error, (*prefix, index))
        if problems:
            raise ConfigError(self.source, tuple(problems))
        return tuple(good)

    def problem(self, path: Path, message: str) -> Problem:
        """A problem at a path."""
        return Problem(dotted(path), message, self.line_of(path))

    def _problems(self, schema: type[BaseModel], error: ValidationError, prefix: Path) -> Iterable[Problem]:
        for detail in error.errors():
            path = prefix + tuple(part for part in detail["loc"] if not str(part).startswith("function-"))
            yield self.problem(path, _sentence(schema, detail))


def _loaded(text: str) -> tuple[yaml.Node | None, Any]:
    """The root node, for its line numbers, and the value."""
    _check_form(text)
    loader = _UniqueKeyLoader(text)
    try:
        node = loader.get_single_node()
        return node, loader.construct_document(node) if node is not None else None
    finally:
        loader.dispose()


def _check_form(text: str) -> None:
    """Raises MarkedYAMLError for an alias (a bomb is made of them), or for what is nested too deep."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        mark: Any = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not allowed", problem_mark=mark)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                message = f"is nested deeper than {MAX_DEPTH} levels"
                raise yaml.MarkedYAMLError(problem=message, problem_mark=mark)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def dotted(path: Path) -> str:
    """`("models", 2, "service")` as "models[2].service"."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _line(node: yaml.Node, path: Path) -> int:
    """The line of what stands at a path, of its key where it has one, or of its nearest parent."""
    line = node.start_mark.line
    for part in path:
        found = _child(node, part)
        if found is None:
            break
        node, line = found
    return int(line) + 1


def _child(node: yaml.Node, part: int | str) -> tuple[yaml.Node, int] | None:
    """What stands under a key or an index, and its line from 0."""
    if isinstance(node, yaml.MappingNode):
        return next(((value, key.start_mark.line) for key, value in node.value if key.value == part), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line
    return None


def _sentence(schema: type[BaseModel], detail: Any) -> str:
    if detail["type"] == "missing":
        return "is missing"
    if detail["type"] == "extra_forbidden":
        key = str(detail["loc"][-1])
        allowed = _fields(schema, detail["loc"][:-1])
        near = difflib.get_close_matches(key, allowed, 1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; allowed are {', '.join(allowed)}"
        return f"no such key{hint}"
    message = _SENTENCES.get(detail["type"], str(detail["msg"]).removeprefix("Value error, "))
    value = detail.get("input")
    is_shown = isinstance(value, str | int | float | bool) and not schema.model_config.get(
        "hide_input_in_errors"
    )
    return f"is {value!r}: {message}" if is_shown else message


def _fields(schema: type[BaseModel], path: Iterable[int | str]) -> list[str]:
    """Keys that the schema allows at a path."""
    current: Any = schema
    for part in path:
        if isinstance(part, int) or not (isinstance(current, type) and issubclass(current, BaseModel)):
            continue
        field = current.model_fields.get(str(part))
        current = _model_in(field.annotation) if field else None
    return (
        sorted(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []
    )


def _model_in(annotation: Any) -> Any:
    """The model class inside an annotation such as `tuple[Model, ...]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
