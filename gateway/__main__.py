"""`python -m gateway`: flags → settings → telemetry → the gateway until SIGTERM."""

from __future__ import annotations

import argparse
import os
import sys

import uvloop

from gateway import compiled

# gRPC reads it when it is imported. Its own lines, one for each handshake that fails, are no events.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
IS_COMPILED = compiled.use()  # before the imports below, which it changes

from gateway.server import Gateway  # noqa: E402
from gateway.settings import GatewaySettings  # noqa: E402
from inference_mesh import telemetry, tracing  # noqa: E402
from inference_mesh.config.errors import ConfigError  # noqa: E402
from inference_mesh.lifecycle import run_service  # noqa: E402
from inference_mesh.settings import SettingsError, load_settings  # noqa: E402

USAGE_ERROR = 2


def main() -> None:
    """Run one gateway; exit status 2 and one sentence if a setting is wrong, or a file that it names."""
    try:
        settings = load_settings(GatewaySettings, vars(_parser().parse_args()))
    except SettingsError as error:
        print(f"gateway: {error}", file=sys.stderr)
        raise SystemExit(USAGE_ERROR) from None
    telemetry.configure_logging("gateway", settings.log_level, settings.log_format)
    tracing.configure_tracing("gateway", settings.otlp_endpoint, settings.trace_sample_ratio)
    telemetry.get_logger(__name__).info("policy loaded", compiled=IS_COMPILED)
    service = run_service(Gateway(settings), drain_delay_s=settings.drain_delay_s, grace_s=settings.grace_s)
    try:
        uvloop.run(service)
    except ConfigError as error:
        print(f"gateway: {error}", file=sys.stderr)
        raise SystemExit(USAGE_ERROR) from None


def _parser() -> argparse.ArgumentParser:
    """One flag for each setting; the settings class checks the values."""
    parser = argparse.ArgumentParser(prog="gateway", description="The policy point in front of all models.")
    for name, field in GatewaySettings.model_fields.items():
        description = (field.description or "").replace("%", "%%")
        parser.add_argument(f"--{name.replace('_', '-')}", dest=name, metavar="VALUE", help=description)
    return parser


if __name__ == "__main__":
    main()
