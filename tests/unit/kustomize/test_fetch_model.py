"""The program that fetches model files: only from where it may, only what it should, whole or not at all."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from scripts.check_manifests import KUSTOMIZE

PROGRAM = KUSTOMIZE / "components" / "model-files-pvc" / "fetch_model.py"
CONTENT = b"GGUF" * 100_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server:
    """Serves CONTENT at /files/, and redirections at /moved/ and /elsewhere/."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.asked: list[str] = []


@pytest.fixture
def server() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known.asked.append(self.path)
            name = self.path.rpartition("/")[2]
            place = {"moved": f"{known.url}/files/{name}", "elsewhere": f"{known.url}/private/{name}"}
            folder = self.path.split("/")[1]
            if folder in place:
                self.send_response(302)
                self.send_header("location", place[folder])
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("content-length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT[: len(CONTENT) // 2] if folder == "half" else CONTENT)

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known = Server(http.server_port)
    thread = threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield known
    http.shutdown()
    http.server_close()
    thread.join(10)


def fetch(folder: Path, server: Server, files: str, allowed: str = "files/ moved/ elsewhere/ half/") -> str:
    """Run it as the container does; its complaint, or nothing."""
    environment = {
        "MESH_WORKER_NAME": "qwen",
        "MODEL_FILES": files,
        "ALLOWED_URLS": " ".join(f"{server.url}/{one}" for one in allowed.split()),
        "http_proxy": "http://127.0.0.1:1",
    }
    command = [sys.executable, str(PROGRAM), str(folder)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode == 0) == (not ended.stderr), ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_files_come_to_the_folder_of_the_model_once(tmp_path: Path, server: Server) -> None:
    wanted = " ".join(
        f"{server.url}/{folder}/model.{folder}#sha256={SHA256}" for folder in ("files", "moved")
    )
    assert fetch(tmp_path, server, wanted) == ""
    assert files_in(tmp_path) == ["qwen/model.files", "qwen/model.moved"]
    assert (tmp_path / "qwen" / "model.files").read_bytes() == CONTENT
    asked = len(server.asked)
    assert fetch(tmp_path, server, wanted) == ""
    assert len(server.asked) == asked


def test_what_is_there_and_wrong_is_replaced(tmp_path: Path, server: Server) -> None:
    (tmp_path / "qwen").mkdir()
    (tmp_path / "qwen" / "model.gguf").write_bytes(b"half of it")
    assert fetch(tmp_path, server, f"{server.url}/files/model.gguf#sha256={SHA256}") == ""
    assert (tmp_path / "qwen" / "model.gguf").read_bytes() == CONTENT


@pytest.mark.parametrize(
    "source",
    [
        "{url}/files/model.gguf#sha256=" + "0" * 64,
        "{url}/half/model.gguf#sha256=" + SHA256,
        "{url}/elsewhere/model.gguf#sha256=" + SHA256,
        "{url}/private/model.gguf#sha256=" + SHA256,
        "http://127.0.0.1:1/files/model.gguf#sha256=" + SHA256,
        "{url}/files/model.gguf",
        "{url}/files/..#sha256=" + SHA256,
        "{url}/files/.hidden#sha256=" + SHA256,
        "file:///etc/passwd#sha256=" + SHA256,
    ],
)
def test_what_is_wrong_forbidden_or_cut_off_is_never_there(
    tmp_path: Path, server: Server, source: str
) -> None:
    assert fetch(tmp_path, server, source.format(url=server.url)) != ""
    assert files_in(tmp_path) == []
    assert not any(path.startswith("/private") for path in server.asked)


def test_a_host_whose_name_begins_like_an_allowed_one_is_another_host(tmp_path: Path, server: Server) -> None:
    url = f"{server.url}/files/model.gguf#sha256={SHA256}"
    # Without the slash at its end `https://host` would allow `https://host.evil.example` as well.
    assert fetch(tmp_path, server, url, allowed="files") != ""
    assert fetch(tmp_path, server, url, allowed="") != ""
    assert server.asked == []
