"""Finding the mesh that runs, and ending it, from another shell."""

from __future__ import annotations

import signal

from mesh_cli.errors import NotRunningError
from mesh_cli.process_identity import send_signal, wait_for_end
from mesh_cli.state import MeshState, StateFolder

FORCED_STOP_S = 5.0


def running_mesh(folder: StateFolder) -> MeshState:
    """The state of the mesh that runs. Raises NotRunningError."""
    state = folder.read()
    if state is None or not state.is_running:
        raise NotRunningError(f"no mesh is running here ({folder.path}); start one with `mesh up`")
    return state


def stop_mesh(folder: StateFolder, timeout_s: float) -> bool:
    """Stop the mesh; True if it stopped in order within the time, False if it had to be killed.

    Raises NotRunningError; processes that a dead supervisor has left are ended even then.
    """
    state = folder.read()
    if state is not None and not state.is_running:
        _kill_left(state)
        folder.state_file.unlink(missing_ok=True)
    state = running_mesh(folder)
    send_signal(state.pid, state.start_mark, signal.SIGTERM)
    if wait_for_end(state.pid, state.start_mark, timeout_s):
        return True
    # The second signal has the supervisor kill its processes; the third would be ours.
    send_signal(state.pid, state.start_mark, signal.SIGTERM)
    if not wait_for_end(state.pid, state.start_mark, FORCED_STOP_S):
        send_signal(state.pid, state.start_mark, signal.SIGKILL)
        wait_for_end(state.pid, state.start_mark, FORCED_STOP_S)
        _kill_left(folder.read() or state)
        folder.state_file.unlink(missing_ok=True)
    return False


def _kill_left(state: MeshState) -> None:
    for service in state.services:
        if send_signal(service.pid, service.start_mark, signal.SIGKILL):
            wait_for_end(service.pid, service.start_mark, FORCED_STOP_S)
