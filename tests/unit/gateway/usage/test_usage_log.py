from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from gateway.usage.log_file import LogFile
from gateway.usage.metrics import UsageMetrics
from gateway.usage.record import UsageRecord
from gateway.usage.usage_log import UsageLog

RECORD = UsageRecord(1.7e9, "call-0", "acme", "k1", "chat", "2", "Infer", 10, 5, 4, False, 0.1, "OK")


class Sink:
    """A usage log, and what its metrics say."""

    def __init__(self, path: Path, max_waiting_bytes: int = 10**6) -> None:
        self.path = path
        self.registry = CollectorRegistry()
        self.log = UsageLog(path, UsageMetrics(self.registry, 10), max_waiting_bytes=max_waiting_bytes)

    def add(self, *numbers: int) -> None:
        for number in numbers:
            self.log.add(RECORD._replace(request_id=f"call-{number}"))

    def value(self, name: str) -> float:
        found = self.registry.get_sample_value(f"mesh_gateway_usage_{name}")
        assert found is not None
        return found


def numbers_in(*paths: Path) -> list[int]:
    """The numbers of the records in files; every line is whole."""
    lines = [line for path in paths for line in path.read_text().splitlines()]
    return [int(json.loads(line)["request_id"].removeprefix("call-")) for line in lines]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.02)


def wait_for(condition: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up_s
        time.sleep(0.02)


@contextlib.asynccontextmanager
async def opened(path: Path, max_waiting_bytes: int = 10**6) -> AsyncIterator[Sink]:
    sink = Sink(path, max_waiting_bytes)
    sink.log.open()
    try:
        yield sink
    finally:
        await sink.log.close(0.2)


async def test_a_record_is_in_the_file_soon_after_its_call(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    async with opened(path) as sink:
        sink.add(1)
        await until(lambda: path.stat().st_size > 0)
        assert numbers_in(path) == [1]
        assert sink.value("log_last_write_successful") == 1


async def test_nothing_is_lost_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    async with opened(path, 10**8) as sink:
        writers = [
            threading.Thread(target=sink.add, args=range(part, 8000, 4), daemon=True) for part in range(4)
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            await asyncio.to_thread(writer.join)
    assert sorted(numbers_in(path)) == list(range(8000))
    assert sink.value("records_lost_total") == 0


async def test_records_are_added_to_what_the_file_has(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    for number in range(3):
        async with opened(path) as sink:
            sink.add(number)
        await sink.log.close()  # once more does no harm
    assert numbers_in(path) == [0, 1, 2]


async def test_a_line_that_a_crash_tore_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    path.write_text('{"request_id": "ca')
    async with opened(path) as sink:
        sink.add(1)
    torn, whole = path.read_text().splitlines()
    assert torn == '{"request_id": "ca'
    assert json.loads(whole)["request_id"] == "call-1"


async def test_a_file_that_was_moved_away_is_followed_by_a_new_one(tmp_path: Path) -> None:
    path, moved = tmp_path / "usage.jsonl", tmp_path / "usage.jsonl.1"
    async with opened(path) as sink:
        sink.add(1)
        await until(lambda: path.stat().st_size > 0)
        path.rename(moved)
        sink.add(2)
        await until(lambda: path.exists() and path.stat().st_size > 0)
        path.unlink()
        sink.add(3)
    assert (numbers_in(moved), numbers_in(path)) == ([1], [3])


async def test_a_folder_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    sink = Sink(tmp_path / "missing" / "usage.jsonl")
    with pytest.raises(FileNotFoundError):
        sink.log.open()
    await sink.log.close()


async def test_records_wait_while_the_disk_takes_none(tmp_path: Path) -> None:
    path, moved = tmp_path / "usage.jsonl", tmp_path / "usage.jsonl.1"
    async with opened(path) as sink:
        path.rename(moved)
        path.mkdir()  # whatever is written now has no file to go to
        sink.add(1, 2)
        await until(lambda: sink.value("log_last_write_successful") == 0)
        sink.add(3)
        path.rmdir()
        await until(lambda: path.is_file() and path.stat().st_size > 0)
        await until(lambda: sink.value("log_last_write_successful") == 1)
        assert sink.value("log_waiting_bytes") == 0
    assert numbers_in(path) == [1, 2, 3]
    assert sink.value("records_lost_total") == 0


async def test_more_records_than_may_wait_are_counted_as_lost(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    line_bytes = len(RECORD._replace(request_id="call-1").line())
    async with opened(path, 4 * line_bytes) as sink:
        path.unlink()
        path.mkdir()
        sink.add(1)
        await until(lambda: sink.value("log_last_write_successful") == 0)
        sink.add(2, 3, 4, 5, 6)
        assert sink.value("records_lost_total") == 2
        path.rmdir()
        await until(lambda: path.is_file() and path.stat().st_size > 0)
        await until(lambda: sink.value("log_waiting_bytes") == 0)
        sink.add(7)
    assert numbers_in(path) == [1, 2, 3, 4, 7]


async def test_what_cannot_be_written_until_the_end_is_counted_as_lost(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    async with opened(path) as sink:
        path.unlink()
        path.mkdir()
        sink.add(1)
        await until(lambda: sink.value("log_last_write_successful") == 0)
        sink.add(2, 3)
    assert sink.value("records_lost_total") == 3
    sink.add(4)
    assert sink.value("records_lost_total") == 4


def test_a_line_that_the_disk_took_half_goes_on_where_it_began(tmp_path: Path) -> None:
    path, moved = tmp_path / "usage.jsonl", tmp_path / "usage.jsonl.1"
    program = textwrap.dedent(
        f"""
        import resource
        from pathlib import Path
        from gateway.usage.log_file import LogFile

        path = Path({str(path)!r})
        file = LogFile(path)
        lines = memoryview(b"first line\\nsecond line\\n")
        resource.setrlimit(resource.RLIMIT_FSIZE, (15, resource.RLIM_INFINITY))
        written = file.append(lines)
        assert written == 15
        try:
            file.append(lines[written:])
        except OSError:
            pass
        else:
            raise AssertionError("the disk was not full")
        path.rename({str(moved)!r})
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert file.append(lines[written:]) == len(lines) - written
        file.append(memoryview(b"third line\\n"))
        file.close()
        """
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert moved.read_text() == "first line\nsecond line\n"
    assert path.read_text() == "third line\n"


def test_a_file_is_readable_by_its_group_alone(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    before = os.umask(0)
    try:
        file = LogFile(path)
        file.open()
        file.close()
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_sigterm_loses_no_record(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    program = textwrap.dedent(
        f"""
        import asyncio, dataclasses, signal
        from pathlib import Path
        from prometheus_client import CollectorRegistry
        from gateway.usage.metrics import UsageMetrics
        from gateway.usage.record import UsageRecord
        from gateway.usage.usage_log import UsageLog

        async def main():
            log = UsageLog(Path({str(path)!r}), UsageMetrics(CollectorRegistry(), 1))
            log.open()
            stopping = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
            number = 0
            while not stopping.is_set():
                log.add(UsageRecord(0, f"call-{{number}}", "", "", "", "", "", 0, 0, 0, False, 0, "OK"))
                number += 1
                if number == 10:
                    print("going", flush=True)
                await asyncio.sleep(0.001)
            await log.close()
            print(number, flush=True)

        asyncio.run(main())
        """
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "going\n"
        wait_for(lambda: path.stat().st_size > 0)
        process.send_signal(signal.SIGTERM)
        added = int(process.stdout.readline())
    assert process.returncode == 0
    assert numbers_in(path) == list(range(added))
