"""`python -m rest_bridge`: settings, telemetry, serve until told to stop."""

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
from rest_bridge.server import BridgeService
from rest_bridge.settings import BridgeSettings

SERVICE = "rest-bridge"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the bridge; exit code 2 and one sentence if a setting is wrong, or a file that it names."""
    flags = vars(_parser().parse_args(arguments))
    try:
        settings = load_settings(BridgeSettings, flags)
    except SettingsError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    telemetry.configure_logging(SERVICE, settings.log_level, settings.log_format)
    tracing.configure_tracing(SERVICE, settings.otlp_endpoint, settings.trace_sample_ratio)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings))
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


async def _serve(settings: BridgeSettings) -> None:
    await run_service(BridgeService(settings), drain_delay_s=settings.drain_delay_s, grace_s=settings.grace_s)


def _parser() -> argparse.ArgumentParser:
    """A flag for every setting; a flag wins over its MESH_BRIDGE_ variable."""
    parser = argparse.ArgumentParser(prog="python -m rest_bridge", description=__doc__)
    for name, field in BridgeSettings.model_fields.items():
        flags = [f"--{name.replace('_', '-')}"]
        if name == "http_port":
            flags.append("--port")
        parser.add_argument(*flags, dest=name, default=None, help=f"{field.description} [{field.default!r}]")
    return parser


if __name__ == "__main__":
    main()
