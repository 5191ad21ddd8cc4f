"""A model as a folder of kustomize: a copy of one that is there, under another name. Pure.

Owns what differs between two such folders, and the two lists that a new one stands in. A text
in a form that it does not know is refused, never guessed at.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import yaml

from inference_mesh.config.models_file import parse_models
from mesh_cli.errors import UsageError
from mesh_cli.mesh_edit import with_entry
from mesh_cli.mesh_schema import Runtime, TaskName

SETTINGS = "settings.env"
NAMESPACE = "ai-models"
MAX_SERVICE_NAME = 63


@dataclasses.dataclass(frozen=True, slots=True)
class NewModel:
    """What is added. path: where its file is inside the pod."""

    name: str
    path: str
    runtime: Runtime
    task: TaskName | None = None

    @property
    def service(self) -> str:
        """Name of its folder, Deployment and Service: a DNS label, which a model's name need not be."""
        label = re.sub(r"[^a-z0-9-]", "-", self.name)
        label = label if label[0].isalpha() else f"m-{label}"
        return label[:MAX_SERVICE_NAME].strip("-")

    @property
    def host(self) -> str:
        """Where gateways find its replicas."""
        return f"{self.service}.{NAMESPACE}.svc.cluster.local"


def folder_of(template: Mapping[str, str], old_service: str, model: NewModel) -> dict[str, str]:
    """The files of the new model's folder, by name, from those of another. Raises UsageError."""
    if SETTINGS not in template:
        raise UsageError(f"the folder '{old_service}' has no {SETTINGS}, so it is no model to copy")
    old_name = settings_of(template[SETTINGS]).get("MESH_WORKER_NAME", "")
    whole_word = re.compile(rf"(?<![\w./-]){re.escape(old_service)}(?![\w./])")
    files = {}
    for name, text in template.items():
        if name == SETTINGS:
            files[name] = _settings(text, model)
        else:
            files[name] = whole_word.sub(model.service, text).replace(f"`{old_name}`", f"`{model.name}`")
    return files


def settings_of(text: str) -> dict[str, str]:
    """The variables of a settings.env."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines if "=" in line)


def with_resource(text: str, name: str, *, source: str) -> str:
    """A kustomization with one more folder, after those that it has. Raises UsageError."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    listed = next((node for key, node in pairs if key.value == "resources"), None)
    if not isinstance(listed, yaml.SequenceNode) or listed.flow_style:
        raise UsageError(f"{source} is not in a form that can be added to; add '{name}' to its resources")
    folders = [node for node in listed.value if not node.value.endswith((".yaml", ".yml"))]
    if name in (node.value for node in folders):
        raise UsageError(f"{source} has '{name}' already; choose another name")
    lines = text.splitlines()
    after = (folders or listed.value)[-1].end_mark.line
    lines.insert(after + 1, f"{' ' * listed.start_mark.column}- {name}")
    return "\n".join(lines) + "\n"


def with_registry_entry(text: str, model: NewModel, *, source: str) -> str:
    """A models.yaml with the model. Raises ConfigError or UsageError."""
    taken = {name for one in parse_models(text, source=source).models for name in (one.name, *one.aliases)}
    if model.name in taken:
        raise UsageError(f"{source} has a model or alias '{model.name}' already; choose another name")
    added = with_entry(text, {"name": model.name, "service": model.host}, source=source)
    if parse_models(added, source=source).models[-1].name != model.name:
        raise UsageError(f"{source} is not in a form that can be added to; add '{model.name}' to its models")
    return added


def _settings(text: str, model: NewModel) -> str:
    """The other model's settings with this one's name, file and task; what sizes it had stays."""
    own = {"NAME": model.name, "MODEL": model.path, "RUNTIME": model.runtime, "TASK": model.task}
    of_this_one = {f"MESH_WORKER_{key}": value for key, value in own.items() if value is not None}
    of_the_other = ("MESH_WORKER_TASK=", "MESH_WORKER_VERSION=")
    kept = [
        line
        for line in text.splitlines()
        if not line.startswith(tuple(f"{key}=" for key in of_this_one)) and not line.startswith(of_the_other)
    ]
    comments = [line for line in kept if line.startswith("#")]
    others = [line for line in kept if line.strip() and not line.startswith("#")]
    return "\n".join([*comments, *(f"{key}={value}" for key, value in of_this_one.items()), *others]) + "\n"
