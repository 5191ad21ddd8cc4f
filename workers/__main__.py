"""`python -m workers`: settings, telemetry, one engine, serve until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import sys
from collections.abc import Sequence

import uvloop

from inference_mesh import telemetry, tracing
from inference_mesh.config.errors import ConfigError
from inference_mesh.lifecycle import run_service
from inference_mesh.settings import SettingsError, load_settings
from workers.engine import Engine
from workers.engines import make_engine
from workers.llama.environment import native_environment
from workers.metrics import WorkerMetrics
from workers.server import WorkerService
from workers.settings import WorkerSettings


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a worker; exit code 2 and one sentence if a setting or its file is wrong, 1 if it cannot listen."""
    flags = vars(_parser().parse_args(arguments))
    try:
        settings = load_settings(WorkerSettings, flags)
        # Before anything loads libgomp, which reads it once.
        os.environ.update(native_environment(settings.openmp_wait, os.environ))
        # Its threads would take the time of those that compute; a text takes one 50 microseconds.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        metrics = WorkerMetrics(settings.name)
        engine = make_engine(settings, metrics)
    except SettingsError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    telemetry.configure_logging(f"worker-{settings.name}", settings.log_level, settings.log_format)
    tracing.configure_tracing(f"worker-{settings.name}", settings.otlp_endpoint, settings.trace_sample_ratio)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve(settings, engine, metrics))
        except ConfigError as error:
            print(error, file=sys.stderr)
            raise SystemExit(2) from None
        except (OSError, RuntimeError) as error:
            print(f"cannot serve: {error}", file=sys.stderr)
            raise SystemExit(1) from None


async def _serve(settings: WorkerSettings, engine: Engine, metrics: WorkerMetrics) -> None:
    service = WorkerService(settings, engine, metrics, on_loaded=_keep_what_is_loaded)
    await run_service(service, drain_delay_s=settings.drain_delay_s, grace_s=settings.grace_s)


def _keep_what_is_loaded() -> None:
    """What is in memory now stays there: no collection of garbage looks at it again."""
    gc.collect()
    gc.freeze()


def _parser() -> argparse.ArgumentParser:
    """A flag for every setting; a flag wins over its MESH_WORKER_ variable."""
    parser = argparse.ArgumentParser(prog="python -m workers", description=__doc__)
    for name, field in WorkerSettings.model_fields.items():
        default = "required" if field.is_required() else repr(field.default)
        parser.add_argument(
            f"--{name.replace('_', '-')}", dest=name, default=None, help=f"{field.description} [{default}]"
        )
    return parser


if __name__ == "__main__":
    main()
