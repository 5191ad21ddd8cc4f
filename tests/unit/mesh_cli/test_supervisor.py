"""The supervisor with real processes: restart, stop, and what is left behind."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import yaml

from mesh_cli.process_identity import is_same_process, wait_for_end
from mesh_cli.state import MeshState, ServiceState, Status
from tests.support.meshes import fake_mesh, fake_plan, mesh


def _settled(state: MeshState) -> bool:
    return state.is_settled


def _service(state: MeshState, name: str) -> ServiceState:
    return next(service for service in state.services if service.name == name)


def _left(state: MeshState) -> list[str]:
    return [one.name for one in state.services if is_same_process(one.pid, one.start_mark)]


def test_a_killed_worker_is_restarted_on_the_same_ports(tmp_path: Path) -> None:
    with fake_mesh(tmp_path, fake_plan(a_0={})) as running:
        before = _service(running.wait_state(_settled), "a-0")
        os.kill(before.pid, signal.SIGKILL)
        state = running.wait_state(lambda state: state.is_settled and _service(state, "a-0").restarts == 1)
        after = _service(state, "a-0")
        assert after.pid != before.pid
        assert (after.grpc_port, after.http_port) == (before.grpc_port, before.http_port)
        waiting = [line for line in (tmp_path / "output").read_text().splitlines() if "waiting" in line]
        assert waiting == ["a-0: waiting - killed by SIGKILL"]


def test_sigterm_stops_bridge_then_gateway_then_workers_and_leaves_nothing(tmp_path: Path) -> None:
    with fake_mesh(tmp_path, fake_plan(a_0={}, a_1={})) as running:
        state = running.wait_state(_settled)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0
        stops = [line for line in running.trace if line.startswith("stop")]
        assert stops[:2] == ["stop bridge", "stop gateway"]
        assert sorted(stops[2:]) == ["stop a-0", "stop a-1"]
        assert _left(state) == []
        assert not running.folder.state_file.exists()


def test_a_second_ctrl_c_kills_what_does_not_stop(tmp_path: Path) -> None:
    with fake_mesh(tmp_path, fake_plan(a_0={"arguments": ["--ignore-sigterm"]})) as running:
        state = running.wait_state(_settled)
        running.process.send_signal(signal.SIGINT)
        running.wait_state(lambda state: _service(state, "a-0").status is Status.STOPPING)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(2) == 0
        assert _left(state) == []


def test_a_service_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    with fake_mesh(tmp_path, fake_plan(a_0={"arguments": ["--ignore-sigterm"]})) as running:
        state = running.wait_state(_settled)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 0
        assert _left(state) == []


def test_kill_9_of_the_supervisor_ends_every_process(tmp_path: Path) -> None:
    with fake_mesh(tmp_path, fake_plan(a_0={}, a_1={})) as running:
        state = running.wait_state(_settled)
        assert len(_left(state)) == 4
        running.process.kill()
        assert all(wait_for_end(one.pid, one.start_mark, 5.0) for one in state.services)
        assert mesh("status", "--state-dir", str(tmp_path)).returncode == 3


def test_a_bad_model_fails_with_its_reason_while_the_others_serve(tmp_path: Path) -> None:
    with fake_mesh(tmp_path, fake_plan(a_0={}, bad_0={"arguments": ["--exit-code", "1"]})) as running:
        state = running.wait_state(_settled)
        bad = _service(state, "bad-0")
        assert (bad.status, bad.reason) == (Status.FAILED, "model not loaded: the file is damaged")
        assert bad.restarts == 2
        assert state.can_serve


def test_a_model_with_a_known_problem_is_not_even_started(tmp_path: Path) -> None:
    with fake_mesh(tmp_path, fake_plan(a_0={}, gone_0={"problem": "there is no file"})) as running:
        gone = _service(running.wait_state(_settled), "gone-0")
        assert (gone.status, gone.reason, gone.pid) == (Status.FAILED, "there is no file", 0)


@pytest.mark.parametrize("name", ["gateway", "bridge", "a-0"])
def test_a_mesh_that_cannot_serve_stops_and_exits_1_with_the_reason(tmp_path: Path, name: str) -> None:
    plan = fake_plan(a_0={})
    plan[name]["arguments"] = ["--exit-code", "2"]
    with fake_mesh(tmp_path, plan) as running:
        assert running.process.wait(20) == 1
        assert f"{name}: model not loaded: the file is damaged" in (tmp_path / "output").read_text()


def test_the_registry_names_the_ports_of_the_workers(tmp_path: Path) -> None:
    with fake_mesh(tmp_path, fake_plan(a_0={}, a_1={})) as running:
        state = running.wait_state(_settled)
        entries = yaml.safe_load(running.folder.models_file.read_text())["models"]
        ports = {f"127.0.0.1:{one.grpc_port}" for one in state.services if one.kind == "worker"}
        assert set(entries[0]["endpoints"]) == ports


def test_a_second_mesh_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    with fake_mesh(tmp_path, fake_plan(a_0={})) as running:
        running.wait_state(_settled)
        refused = mesh("up", "--state-dir", str(tmp_path), "--no-live")
        assert refused.returncode == 1
        assert f"pid {running.process.pid}" in refused.stderr


def test_status_as_json_shows_every_process_and_down_stops_them_all(tmp_path: Path) -> None:
    with fake_mesh(tmp_path, fake_plan(a_0={})) as running:
        state = running.wait_state(_settled)
        shown = mesh("status", "--json", "--state-dir", str(tmp_path))
        assert shown.returncode == 0
        document = json.loads(shown.stdout)
        assert document["running"] is True
        assert {one["name"]: one["status"] for one in document["services"]} == {
            "a-0": "ready",
            "gateway": "ready",
            "bridge": "ready",
        }
        assert "a-0" in mesh("status", "--state-dir", str(tmp_path)).stdout
        down = mesh("down", "--state-dir", str(tmp_path))
        assert (down.returncode, down.stdout.strip()) == (0, "mesh is down")
        assert running.process.wait(5) == 0
        assert _left(state) == []


def test_down_ends_even_a_mesh_that_does_not_stop_and_says_so(tmp_path: Path) -> None:
    with fake_mesh(tmp_path, fake_plan(a_0={"arguments": ["--ignore-sigterm"]})) as running:
        state = running.wait_state(_settled)
        down = mesh("down", "--timeout", "0.3", "--state-dir", str(tmp_path))
        assert down.returncode == 1
        assert "was killed" in down.stderr
        assert _left(state) == []


def test_down_does_not_touch_a_process_that_has_taken_the_pid_since(tmp_path: Path) -> None:
    with fake_mesh(tmp_path / "other", fake_plan(a_0={})) as other:
        theirs = other.wait_state(_settled)
        folder = type(other.folder)(tmp_path)
        folder.create()
        folder.write(theirs.model_copy(update={"start_mark": "1", "services": ()}))
        assert mesh("down", "--state-dir", str(tmp_path)).returncode == 3
        assert other.process.poll() is None
