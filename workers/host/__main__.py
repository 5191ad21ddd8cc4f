"""`python -m workers.host`: settings, telemetry, serve until told to stop."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

import uvloop

from inference_mesh import telemetry, tracing
from inference_mesh.config.errors import ConfigError
from inference_mesh.lifecycle import run_service
from inference_mesh.settings import SettingsError, load_settings
from workers.host.host_file import HostFile, read_host_file
from workers.host.server import HostService
from workers.host.settings import HostSettings

SERVICE = "worker-host"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a host; exit code 2 and one sentence if a setting or its file is wrong, 1 if it cannot listen."""
    flags = vars(_parser().parse_args(arguments))
    try:
        settings = load_settings(HostSettings, flags)
        models = read_host_file(settings.models)
    except (SettingsError, ConfigError) as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    telemetry.configure_logging(SERVICE, settings.log_level, settings.log_format)
    tracing.configure_tracing(SERVICE, settings.otlp_endpoint, settings.trace_sample_ratio)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            runner.run(_serve(settings, models))
        except ConfigError as error:
            print(error, file=sys.stderr)
            raise SystemExit(2) from None
        except (OSError, RuntimeError) as error:
            print(f"cannot serve: {error}", file=sys.stderr)
            raise SystemExit(1) from None


async def _serve(settings: HostSettings, models: HostFile) -> None:
    service = HostService(settings, models)
    await run_service(service, drain_delay_s=settings.drain_delay_s, grace_s=settings.grace_s)


def _parser() -> argparse.ArgumentParser:
    """A flag for every setting; a flag wins over its MESH_HOST_ variable."""
    parser = argparse.ArgumentParser(prog="python -m workers.host", description=__doc__)
    for name, field in HostSettings.model_fields.items():
        default = "required" if field.is_required() else repr(field.default)
        parser.add_argument(
            f"--{name.replace('_', '-')}", dest=name, default=None, help=f"{field.description} [{default}]"
        )
    return parser


if __name__ == "__main__":
    main()
