"""Real processes of the mesh under test: started on free ports, stopped by signal, never left.

Owns starting and ending them, and that nothing that they tell holds a canary. What they answer
is asked by the tests over the wire.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

from inference_mesh.cache import cache_dir
from tests.support import canaries

REPOSITORY = Path(__file__).parents[2]
START_LIMIT_S = 60.0
STOP_LIMIT_S = 20.0

IRIS = REPOSITORY / "models" / "files" / "iris"
TINY_CHAT = REPOSITORY / "models" / "files" / "tiny-chat.gguf"
MINILM = cache_dir() / "models" / "minilm"


@dataclasses.dataclass
class MeshProcess:
    """One running process, with its ports once it serves."""

    name: str
    popen: subprocess.Popen[bytes]
    port_file: Path
    log_file: Path
    grpc: int = 0
    http: int = 0

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.popen.pid

    @property
    def grpc_target(self) -> str:
        """host:port of its gRPC server."""
        return f"127.0.0.1:{self.grpc}"

    @property
    def url(self) -> str:
        """Base URL of its HTTP server."""
        return f"http://127.0.0.1:{self.http}"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it."""
        self.popen.send_signal(number)

    def wait_for_ports(self) -> None:
        """Wait until it has written its port file. Fails with its log if it ends before."""
        deadline = time.monotonic() + START_LIMIT_S
        while not self.port_file.exists():
            if self.popen.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.name} did not start: {self.log_text()[-4000:]}")
            time.sleep(0.02)
        ports = json.loads(self.port_file.read_text())
        self.grpc, self.http = ports.get("grpc", 0), ports.get("http", 0)

    def wait_until_ready(self) -> None:
        """Wait until /readyz says 200."""
        self.wait_for_ports()
        wait_until(
            lambda: http_status_of(f"{self.url}/readyz") == 200, f"{self.name} is ready", START_LIMIT_S
        )

    def log_text(self) -> str:
        """What it logged so far."""
        return self.log_file.read_text(errors="replace")

    def metrics_text(self) -> str:
        """Its page of metrics; empty if it has none, or does not answer."""
        if not self.http or self.popen.poll() is not None or is_stopped(self.pid):
            return ""
        try:
            return http_text_of(f"{self.url}/metrics")
        except OSError:
            return ""

    def stop(self) -> int:
        """End it by SIGTERM, or by SIGKILL when that takes too long; its exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGCONT)
            self.popen.terminate()
            try:
                return self.popen.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                self.popen.kill()
        return self.popen.wait()


def end_process(popen: subprocess.Popen[bytes]) -> None:
    """End a process by SIGTERM, or by SIGKILL when that takes too long."""
    popen.terminate()
    try:
        popen.wait(STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()


class ProcessGroup:
    """Starts processes and ends every one of them at the end of a test."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[MeshProcess] = []
        self._pages: list[tuple[str, str]] = []

    def start(
        self,
        module: str,
        *arguments: str,
        name: str = "",
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> MeshProcess:
        """`python -m module arguments` with a port file and a log of its own. prefix: runs it."""
        label = f"{name or module}-{len(self._processes)}"
        port_file, log_file = self._folder / f"{label}.ports.json", self._folder / f"{label}.log"
        command = [*prefix, sys.executable, "-m", module, *arguments, "--port-file", str(port_file)]
        full = {**(environment or os.environ), "OMP_WAIT_POLICY": "passive", "GGML_NO_BACKTRACE": "1"}
        with log_file.open("wb") as log:
            popen = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=REPOSITORY, env=full, start_new_session=True
            )
        process = MeshProcess(label, popen, port_file, log_file)
        self._processes.append(process)
        return process

    def worker(self, model: Path, *arguments: str, name: str, runtime: str) -> MeshProcess:
        """A worker of one model on free ports."""
        return self.start(
            "workers",
            *("--model", str(model), "--name", name, "--runtime", runtime),
            *("--grpc-port", "0", "--http-port", "0", *arguments),
            name=name,
        )

    def gateway(self, models_file: Path, *arguments: str) -> MeshProcess:
        """A gateway of a models.yaml on free ports."""
        ports = ("--grpc-port", "0", "--http-port", "0")
        return self.start("gateway", "--models", str(models_file), *ports, *arguments)

    def bridge(self, gateway: MeshProcess, *arguments: str) -> MeshProcess:
        """A REST bridge in front of a gateway, on a free port."""
        return self.start("rest_bridge", "--gateway", gateway.grpc_target, "--port", "0", *arguments)

    def end(self) -> None:
        """End all, the last started first; their metrics are read once more before."""
        self._pages = [(f"metrics of {one.name}", one.metrics_text()) for one in self._processes]
        for process in reversed(self._processes):
            process.stop()

    def check(self) -> None:
        """Fail if a log or a page of metrics of a process that ended holds a canary."""
        logs = [(f"log of {one.name}", one.log_text()) for one in self._processes]
        canaries.check([*logs, *self._pages])


@contextlib.contextmanager
def process_group(folder: Path) -> Iterator[ProcessGroup]:
    """A group that is ended with the block; what its processes told is looked through then."""
    group = ProcessGroup(folder)
    try:
        yield group
    finally:
        group.end()
    group.check()


def write_models_file(path: Path, workers: Mapping[str, Sequence[MeshProcess]]) -> Path:
    """A models.yaml with the replicas of each model, replaced atomically."""
    entries = [
        {"name": name, "endpoints": [worker.grpc_target for worker in replicas]}
        for name, replicas in workers.items()
    ]
    temporary = path.with_suffix(".tmp")
    temporary.write_text(yaml.safe_dump({"version": 1, "models": entries}))
    temporary.replace(path)
    return path


def http_status_of(url: str) -> int:
    """Status of a GET; 0 if nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def http_text_of(url: str) -> str:
    """Body of a GET, whatever its status."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def wait_until(condition: object, what: str, limit_s: float = 10.0) -> float:
    """Poll a condition until it holds; the seconds that it took. Fails after the limit."""
    if not callable(condition):
        raise TypeError("the condition must be callable")
    started = time.monotonic()
    while not condition():
        if time.monotonic() - started > limit_s:
            raise AssertionError(f"not within {limit_s} s: {what}")
        time.sleep(0.01)
    return time.monotonic() - started


def metric_sum(text: str, name: str, **labels: str) -> float:
    """Sum of a metric's samples that carry these labels, from a /metrics page."""
    total = 0.0
    for line in text.splitlines():
        head, _, value = line.rpartition(" ")
        if head.partition("{")[0] == name and all(
            f'{key}="{wanted}"' in head for key, wanted in labels.items()
        ):
            total += float(value)
    return total


def is_stopped(pid: int) -> bool:
    """Whether a process was stopped by a signal and cannot answer."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process, all its threads, from /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
