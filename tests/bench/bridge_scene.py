"""The servers that the bridge is measured with: the mesh before a mock, LiteLLM's proxy before a mock."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

from inference_mesh.config.keys_file import new_key
from tests.bench.peers.environment import peer_python
from tests.support.processes import (
    REPOSITORY,
    START_LIMIT_S,
    end_process,
    http_status_of,
    process_group,
    wait_until,
    write_models_file,
)

LITELLM_KEY = "sk-0123456789abcdef"
LITELLM_START_LIMIT_S = 180.0
MOCK_OPENAI = REPOSITORY / "tests" / "bench" / "peers" / "mock_openai.py"


@dataclasses.dataclass(frozen=True)
class Server:
    """Where it answers, with which key, and the processes whose CPU it costs."""

    url: str
    key: str
    pids: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Scene:
    """bridge: the bridge alone is counted. mesh: bridge and gateway. litellm: None = not asked for."""

    bridge: Server
    mesh: Server
    litellm: Server | None


@contextlib.contextmanager
def scene(folder: Path, *, with_litellm: bool) -> Iterator[Scene]:
    """Everything, ready."""
    key, entry = new_key(tenant="bench", scopes=("infer",))
    keys_file = folder / "keys.yaml"
    kept = entry.model_dump(mode="json", exclude_none=True)
    keys_file.write_text(yaml.safe_dump({"keys": [kept]}))
    with contextlib.ExitStack() as stack:
        group = stack.enter_context(process_group(folder))
        worker = group.start("tests.bench.peers.mock_worker", "--name", "chat", name="mock")
        worker.wait_for_ports()
        models = write_models_file(folder / "models.yaml", {"chat": [worker]})
        gateway = group.gateway(models, "--keys", str(keys_file))
        gateway.wait_until_ready()
        bridge = group.bridge(gateway)
        bridge.wait_until_ready()
        litellm = stack.enter_context(_litellm(folder)) if with_litellm else None
        yield Scene(
            Server(bridge.url, key, (bridge.pid,)),
            Server(bridge.url, key, (bridge.pid, gateway.pid)),
            litellm,
        )


@contextlib.contextmanager
def _litellm(folder: Path) -> Iterator[Server]:
    """LiteLLM's proxy with one worker process, a key, no database, before the mock of OpenAI."""
    python, port = peer_python("litellm"), _free_port()
    port_file, config = folder / "mock.json", folder / "litellm.yaml"
    with _process([str(python), str(MOCK_OPENAI), str(port_file)], folder / "mock.log"):
        wait_until(port_file.exists, "the mock of OpenAI listens", START_LIMIT_S)
        upstream = f"http://127.0.0.1:{json.loads(port_file.read_text())['http']}/v1"
        model = {"model": "openai/chat", "api_base": upstream, "api_key": "none"}
        config.write_text(
            yaml.safe_dump(
                {
                    "model_list": [{"model_name": "chat", "litellm_params": model}],
                    "general_settings": {"master_key": LITELLM_KEY},
                    "litellm_settings": {"telemetry": False},
                }
            )
        )
        told = ["--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
        command = [str(python.parent / "litellm"), *told]
        with _process(command, folder / "litellm.log") as pid:
            url = f"http://127.0.0.1:{port}"
            wait_until(
                lambda: http_status_of(f"{url}/health/liveliness") == 200, "LiteLLM", LITELLM_START_LIMIT_S
            )
            yield Server(url, LITELLM_KEY, (pid,))


@contextlib.contextmanager
def _process(command: Sequence[str], log_file: Path) -> Iterator[int]:
    """A process of another environment, ended with the block."""
    # Its table of prices comes with the package: it is not to be asked for anywhere.
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_PROXY": "127.0.0.1"}
    environment.pop("PYTHONPATH", None)
    with log_file.open("wb") as log:
        popen = subprocess.Popen(command, stdout=log, stderr=log, cwd=log_file.parent, env=environment)
    try:
        yield popen.pid
    finally:
        end_process(popen)


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
