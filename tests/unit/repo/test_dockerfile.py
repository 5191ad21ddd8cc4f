"""The Dockerfile keeps what the manifests and the documents promise of the images."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pytest

from scripts.build_images import GPU_IMAGES, IMAGES, build_command, split, version, working_engine
from scripts.llama_wheel import CMAKE_FLAGS, EXCLUDED, NO_COMMON
from scripts.write_sbom import SOURCES, installed

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "Dockerfile").read_text()
TARGETS = (*IMAGES, *GPU_IMAGES)
WORKERS = tuple(name for name in TARGETS if name.startswith("worker-"))
USER = "10001:10001"
INSTRUCTIONS = {"ARG", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "LABEL", "RUN", "USER", "WORKDIR"}
PORTABLE = {"NATIVE=OFF", "SSE42=ON", "AVX=ON", "AVX2=ON", "FMA=ON", "F16C=ON", "BMI2=ON"}


class Instruction(NamedTuple):
    word: str
    rest: str


@dataclass
class Stage:
    """name, what it starts from, and its instructions after FROM."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        return [one.rest for one in self.instructions if one.word == word]


def instructions(text: str) -> Iterator[Instruction]:
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for line in lines.replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.partition(" ")
            yield Instruction(word, rest.strip())


def stages() -> dict[str, Stage]:
    found: dict[str, Stage] = {}
    current: Stage | None = None
    for instruction in instructions(TEXT):
        if instruction.word == "FROM":
            base, _, name = instruction.rest.partition(" AS ")
            current = found[name] = Stage(name, base)
        elif current is not None:
            current.instructions.append(instruction)
    return found


STAGES = stages()
RUNS = [(name, run) for name, stage in STAGES.items() for run in stage.all("RUN")]


def settings() -> dict[str, dict[str, str]]:
    """The settings.env of each model's folder, with the image that its Deployment names."""
    found = {}
    for path in sorted((ROOT / "kustomize" / "base" / "models").glob("*/settings.env")):
        lines = (line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)
        image = re.search(r"image: inference-mesh/(\S+):", path.with_name("deployment.yaml").read_text())
        assert image is not None
        found[path.parent.name] = {**{one[0]: one[1] for one in lines}, "image": image[1]}
    return found


def test_it_is_written_in_what_buildah_1_28_builds() -> None:
    assert {one.word for one in instructions(TEXT)} <= INSTRUCTIONS
    assert "<<" not in TEXT
    assert "--link" not in TEXT
    assert "--mount" not in TEXT
    assert not re.match(r"#\s*(syntax|escape|check)\s*=", TEXT)


def test_there_is_one_target_for_each_image_and_its_bill_of_materials() -> None:
    assert set(TARGETS) <= set(STAGES)
    assert set(TARGETS) == set(SOURCES)


def test_every_image_of_the_manifests_is_a_target_of_this_version() -> None:
    texts = (path.read_text() for path in (ROOT / "kustomize").rglob("*.yaml"))
    named = {image for text in texts for image in re.findall(r"\binference-mesh/([a-z-]+:\S+)", text)}
    assert {image.partition(":")[0] for image in named} >= set(IMAGES)
    assert named <= {f"{target}:{version()}" for target in TARGETS}


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_as_nobody_and_starts_its_service(target: str) -> None:
    stage = STAGES[target]
    assert stage.all("USER") == [USER]
    words = [one.word for one in stage.instructions]
    assert not {"RUN", "COPY"} & set(words[words.index("USER") :])
    service = {"gateway": "gateway", "rest-bridge": "rest_bridge"}.get(target, "workers")
    assert [json.loads(one) for one in stage.all("ENTRYPOINT")] == [["/opt/venv/bin/python", "-m", service]]
    assert (ROOT / service / "__main__.py").is_file()


@pytest.mark.parametrize("target", TARGETS)
def test_no_compiler_and_no_installer_comes_into_an_image(target: str) -> None:
    stage = STAGES[target]
    assert stage.base in ("python", "${CUDA_IMAGE}", "${CUDNN_IMAGE}")
    assert [run for run in stage.all("RUN") if re.search(r"\bpip\b|g\+\+|gcc", run)] == []
    assert all(one.startswith("--from=") for one in stage.all("COPY"))


def test_base_images_are_arguments_with_a_version() -> None:
    given = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", TEXT.split("\nFROM ")[0], re.MULTILINE))
    named = {stage.base for stage in STAGES.values()} - set(STAGES)
    assert named == {f"${{{name}}}" for name in given}
    assert all(":" in image and not image.endswith(":latest") for image in given.values())


def test_every_package_is_checked_by_its_hash() -> None:
    commands = [part.strip() for _, run in RUNS for part in run.split("&&")]
    installs = [one for one in commands if re.search(r"\bpip\b.* (download|install|wheel) ", one)]
    assert len(installs) > len(TARGETS)
    of_this_build = (" --find-links /opt/wheels llama-cpp-python", " /opt/llama/source")
    unchecked = [one for one in installs if "--require-hashes" not in one and not one.endswith(of_this_build)]
    assert unchecked == []
    files = set(re.findall(r"requirements/\S+\.txt", " ".join(run for _, run in RUNS)))
    assert files == set(re.findall(r"requirements/\S+\.txt", " ".join(_copied())))
    for name in files:
        entries = re.split(r"\n(?=[A-Za-z0-9])", (ROOT / name).read_text())[1:]
        assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def _copied() -> Iterator[str]:
    for stage in STAGES.values():
        for copy in stage.all("COPY"):
            if not copy.startswith("--from="):
                yield copy


def test_what_is_copied_exists_and_is_let_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_through = [line[1:] for line in ignored if line.startswith("!")]
    for copy in _copied():
        for source in copy.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(source == one or source.startswith(f"{one}/") for one in let_through), source
    stages_named = re.findall(r"--from=(\S+)", TEXT)
    assert set(stages_named) <= set(STAGES)


@pytest.mark.parametrize(
    "extra", ["gateway", "rest-bridge", "worker-llama", "worker-onnx", "worker-onnx-gpu"]
)
def test_all_that_a_service_asks_for_is_in_its_image(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {
        re.split(r"[\[<>=~]", need)[0]
        for need in (*project["dependencies"], *extras["service"], *extras[extra])
    }
    texts = ((ROOT / name).read_text() for name in SOURCES[extra])
    pinned = {name for text in texts for name in re.findall(r"^([a-z0-9._-]+)==", text, re.MULTILINE)}
    assert wanted - pinned == {"inference-mesh"}


def test_images_install_the_versions_that_the_tests_run_with() -> None:
    pin = re.compile(r"^([a-z0-9._-]+)==(\S+)", re.MULTILINE)
    tested = dict(pin.findall((ROOT / "requirements" / "dev.txt").read_text()))
    for name in {one for sources in SOURCES.values() for one in sources if one.startswith("requirements/")}:
        pins = dict(pin.findall((ROOT / name).read_text()))
        other = {package for package, pinned in pins.items() if tested.get(package) != pinned}
        assert other <= {"onnxruntime-gpu", "llama-cpp-python"}


@pytest.mark.parametrize("name", ["llama-wheel", "llama-wheel-gpu"])
def test_llama_is_built_for_every_cpu_with_avx2_and_else_as_on_a_laptop(name: str) -> None:
    stage = STAGES[name]
    [arguments] = re.findall(r'CMAKE_ARGS="([^"]*)"', " ".join(stage.all("ENV")))
    flags = set(re.findall(r"-DGGML_(\S+)", arguments))
    assert {flag for flag in flags if not flag.startswith("CUDA")} == PORTABLE
    assert ("CUDA=ON" in flags) == name.endswith("gpu")
    assert set(CMAKE_FLAGS) <= set(arguments.split())
    assert f'SKBUILD_WHEEL_EXCLUDE="{EXCLUDED}"' in " ".join(stage.all("ENV"))
    assert f"echo '{NO_COMMON.strip()}'" in " ".join(stage.all("RUN"))
    assert "requirements/llama.txt" in " ".join(stage.all("RUN"))


def test_the_compiled_policy_is_in_the_gateway_image() -> None:
    assert any("scripts.compile_policy" in run for run in STAGES["policy"].all("RUN"))
    assert "--from=policy /app/build/compiled build/compiled" in STAGES["gateway-sources"].all("COPY")


def test_the_embedded_models_are_where_the_manifests_look_for_them() -> None:
    shipped = {"worker-llama": {"/models/tiny-chat.gguf"}, "worker-onnx": {"/models/minilm"}}
    for values in settings().values():
        if values["MESH_WORKER_NAME"] in ("tiny-chat", "minilm"):
            assert values["MESH_WORKER_MODEL"] in shipped[values["image"]]
    assert STAGES["tiny-chat"].all("COPY") == ["models/files/tiny-chat.gguf /models/"]
    assert any("--output /models/minilm" in run for run in STAGES["minilm"].all("RUN"))
    for worker in WORKERS:
        model = "tiny-chat" if "llama" in worker else "minilm"
        assert f"--from={model} /models /models" in STAGES[worker].all("COPY")


def test_an_engine_whose_daemon_does_not_answer_is_passed_over() -> None:
    assert working_engine(lambda engine: engine != "docker") == "podman"
    assert working_engine(lambda engine: engine == "buildah") == "buildah"
    assert working_engine(lambda _: False) is None


@pytest.mark.parametrize("engine", ["docker", "podman", "buildah"])
def test_every_engine_is_asked_for_one_target_and_the_name_of_the_manifests(engine: str) -> None:
    own, flags = split(["gateway", "--tag", "1", "--", "--build-arg", "A=B"])
    command = build_command(engine, own[0], "docker.io/inference-mesh/gateway:1", flags)
    assert command[:2] == [engine, "build"]
    target = ("--target", "gateway", "--tag", "docker.io/inference-mesh/gateway:1")
    assert command[-7:] == [*target, "--build-arg", "A=B", "."]


def test_a_bill_of_materials_has_what_linux_installs_and_its_hashes() -> None:
    text = (
        "# Made by a script.\n"
        "colorama==1 ; sys_platform == 'win32' \\\n    --hash=sha256:aa\n"
        "grpcio==2 \\\n    --hash=sha256:bb \\\n    --hash=sha256:cc\n"
        "cffi==3 ; platform_python_implementation != 'PyPy' --hash=sha256:dd\n"
    )
    kept = installed([text, "last==4 --hash=sha256:ee\n"])
    assert [entry.split("==")[0] for entry in kept] == ["grpcio", "cffi", "last"]
    assert [entry.count("--hash") for entry in kept] == [2, 1, 1]
