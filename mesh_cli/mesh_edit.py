"""Adding a model to mesh.yaml or models.yaml: a block of text at the end of the list, so that comments stay.

Pure: text in, text out. The new text is parsed again, and must hold what was there and the
new model; a file in another form is left to its owner.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from mesh_cli.errors import UsageError
from mesh_cli.mesh_file import parse_mesh
from mesh_cli.mesh_schema import MeshModel


def with_model(text: str, model: MeshModel, *, source: str) -> str:
    """The text with the model added. Raises ConfigError, or UsageError if it must be added by hand."""
    before = parse_mesh(text, source=source)
    names = {name for one in before.models for name in (one.name, *one.aliases)}
    if model.name in names:
        raise UsageError(f"{source} has a model or alias '{model.name}' already; choose another with --name")
    added = with_entry(text, _fields(model), source=source)
    if parse_mesh(added, source=source).models != (*before.models, model):
        raise _form_error(_fields(model), source)
    return added


def with_entry(text: str, fields: Mapping[str, Any], *, source: str) -> str:
    """The text with one more entry at the end of its models. Raises UsageError if they do not end it."""
    indent = _indent_of_list(text)
    if indent is None:
        raise _form_error(fields, source)
    return f"{text.rstrip()}\n{block(fields, indent)}"


def new_text(model: MeshModel) -> str:
    """A mesh.yaml with this one model."""
    return f"version: 1\nmodels:\n{block(_fields(model), 2)}"


def block(fields: Mapping[str, Any], indent: int) -> str:
    """One entry of the list."""
    lines = yaml.safe_dump(dict(fields), sort_keys=False, allow_unicode=True).splitlines()
    return "".join(
        f"{' ' * indent}{'- ' if number == 0 else '  '}{line}\n" for number, line in enumerate(lines)
    )


def _indent_of_list(text: str) -> int | None:
    """Column of the list's dashes, if the list is in block style and ends the document."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    node: yaml.Node | None = root
    if isinstance(root, yaml.MappingNode) and root.value:
        key, node = root.value[-1]
        if key.value != "models":
            return None
    if not isinstance(node, yaml.SequenceNode) or node.flow_style:
        return None
    return node.start_mark.column


def _fields(model: MeshModel) -> dict[str, Any]:
    """What the file says of the model, its name and path first."""
    given: dict[str, Any] = model.model_dump(mode="json", exclude_defaults=True)
    return {key: given[key] for key in ("name", "path") if key in given} | given


def _form_error(fields: Mapping[str, Any], source: str) -> UsageError:
    return UsageError(
        f"{source} is not in a form that can be added to; add this to its models:\n{block(fields, 2)}"
    )
