from __future__ import annotations

import shutil
import sys
import threading
from pathlib import Path

import pytest

from scripts import llama_cuda
from scripts.llama_cuda import cuda_flags
from scripts.llama_wheel import cached_wheel, wheel_key
from scripts.progress import Progress, SetupError


def requirements(folder: Path, text: str) -> Path:
    folder.mkdir()
    (folder / "llama.txt").write_text(text)
    return folder


def test_another_version_or_hash_of_llama_is_another_wheel(tmp_path: Path) -> None:
    first = wheel_key(requirements(tmp_path / "a", "llama-cpp-python==1 --hash=sha256:1"))
    again = wheel_key(requirements(tmp_path / "b", "llama-cpp-python==1 --hash=sha256:1"))
    other = wheel_key(requirements(tmp_path / "c", "llama-cpp-python==1 --hash=sha256:2"))
    assert first == again != other


def test_a_folder_without_a_wheel_is_not_taken_for_built(tmp_path: Path) -> None:
    assert cached_wheel(tmp_path / "nowhere") is None
    (tmp_path / "build.log").touch()
    assert cached_wheel(tmp_path) is None
    wheel = tmp_path / "llama_cpp_python-1-py3-none-linux_x86_64.whl"
    wheel.touch()
    assert cached_wheel(tmp_path) == wheel


def test_a_step_that_fails_shows_the_end_of_its_output(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "print('the reason'); raise SystemExit(3)"]
    with pytest.raises(SetupError, match=r"(?s)a step failed with exit code 3.*the reason"):
        Progress(tmp_path).run("a step", command)


def test_a_tool_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no-such-tool: No such file"):
        Progress(tmp_path).run("a step", ["no-such-tool"])


def test_ending_all_ends_what_a_step_started(tmp_path: Path) -> None:
    progress = Progress(tmp_path)
    program = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'], stdin=-1)"
    failures: list[SetupError] = []

    def step() -> None:
        try:
            progress.run("waits for ever", [sys.executable, "-c", program])
        except SetupError as error:
            failures.append(error)

    thread = threading.Thread(target=step)
    thread.start()
    progress.end_all()
    thread.join(timeout=20)
    assert not thread.is_alive()
    assert len(failures) == 1


def test_a_build_for_a_gpu_is_kept_beside_that_for_the_cpu(tmp_path: Path) -> None:
    folder = requirements(tmp_path / "a", "llama-cpp-python==1 --hash=sha256:1")
    keys = {wheel_key(folder), wheel_key(folder, cuda_flags("90")), wheel_key(folder, cuda_flags("86;90"))}
    assert len(keys) == 3


@pytest.mark.parametrize("word", ["", "sm_90", "90;", "90 -DX=1"])
def test_an_architecture_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(SystemExit):
        llama_cuda.main(["--architectures", word])


@pytest.mark.skipif(shutil.which("nvcc") is not None, reason="there is a CUDA toolkit")
def test_without_cudas_compiler_the_build_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert llama_cuda.main([]) == 1
    assert "nvcc" in capsys.readouterr().err
