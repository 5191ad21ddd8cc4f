"""How a gRPC connection of the mesh is set up, on either side, so that a hung peer is noticed.

Keepalive alone notices a stopped process only after a minute (grpcio 1.85.1): the ping
timeout of HTTP/2 has its own option, and all three are needed. Measured: 2 to 4 s.
"""

from __future__ import annotations

import ipaddress

import grpc

from inference_mesh.client_tls import ClientTls

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""Largest message where nothing else is set; the same on every hop."""
MAX_MESSAGE_BYTES_LIMIT = 64 * 1024 * 1024
KEEPALIVE_INTERVAL_MS = 2_000
PING_TIMEOUT_MS = 2_000
NAME_AGE_MS = 1_000
"""gRPC's own 30 s are longer than a rolling update of a few gateways: their names would be all stale."""
MAX_METADATA_BYTES = 16 * 1024
"""Both of gRPC's limits: between a soft and a hard one it would refuse at random."""

ChannelOptions = list[tuple[str, int | str]]


def channel_options(max_message_bytes: int = MAX_MESSAGE_BYTES) -> ChannelOptions:
    """Options of a client channel to another process of the mesh."""
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_INTERVAL_MS),
        ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
        ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.dns_min_time_between_resolutions_ms", NAME_AGE_MS),
        ("grpc.use_local_subchannel_pool", 1),
        # Else the window of a stream grows to 4 MiB, which a reader that stops makes us hold.
        ("grpc.http2.bdp_probe", 0),
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),
    ]


def server_options(
    max_message_bytes: int = MAX_MESSAGE_BYTES, max_connection_age_s: float | None = None
) -> ChannelOptions:
    """Options of a server of the mesh; it accepts the pings of `channel_options`.

    max_connection_age_s: after so long, a tenth more or less, a connection takes no new calls, so that
    its client asks again who is there; those that run go on. None = it lasts.
    """
    limits: ChannelOptions = []
    if max_connection_age_s is not None:
        limits.append(("grpc.max_connection_age_ms", round(max_connection_age_s * 1000)))
    return [
        *limits,
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_INTERVAL_MS // 4),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.so_reuseport", 0),
    ]


def open_channel(
    target: str, *, max_message_bytes: int = MAX_MESSAGE_BYTES, tls: ClientTls | None = None
) -> grpc.aio.Channel:
    """A channel to one process of the mesh; the caller closes it.

    tls: None = plaintext. Raises ConfigError if one of its files is missing or wrong.
    """
    return _open(target, channel_options(max_message_bytes), tls)


def open_balanced_channel(
    target: str, *, max_message_bytes: int = MAX_MESSAGE_BYTES, tls: ClientTls | None = None
) -> grpc.aio.Channel:
    """A channel to all processes that a name stands for, which get the calls in turn.

    The name is resolved again when a connection ends. Otherwise as `open_channel`.
    """
    return _open(target, _balanced_options(max_message_bytes), tls)


def open_blocking_channel(
    target: str, *, max_message_bytes: int = MAX_MESSAGE_BYTES, tls: ClientTls | None = None
) -> grpc.Channel:
    """As `open_balanced_channel`, for programs without an event loop."""
    options = _balanced_options(max_message_bytes)
    if tls is None:
        return grpc.insecure_channel(target, options=options)
    return grpc.secure_channel(target, tls.credentials(), options=_named(options, tls.name))


def _balanced_options(max_message_bytes: int) -> ChannelOptions:
    # Of retries only those that need no policy: of calls that met a connection's end and reached nobody.
    ours: ChannelOptions = [("grpc.lb_policy_name", "round_robin"), ("grpc.enable_retries", 1)]
    return [one for one in channel_options(max_message_bytes) if one[0] not in dict(ours)] + ours


def open_secure_channel(
    target: str, credentials: grpc.ChannelCredentials, name: str, *, max_message_bytes: int
) -> grpc.aio.Channel:
    """A channel with TLS; name: what the certificate is checked for, empty = the host of the target."""
    return _secure(target, channel_options(max_message_bytes), credentials, name)


def _open(target: str, options: ChannelOptions, tls: ClientTls | None) -> grpc.aio.Channel:
    if tls is None:
        return grpc.aio.insecure_channel(target, options=options)
    return _secure(target, options, tls.credentials(), tls.name)


def _secure(
    target: str, options: ChannelOptions, credentials: grpc.ChannelCredentials, name: str
) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(target, credentials, options=_named(options, name))


def _named(options: ChannelOptions, name: str) -> ChannelOptions:
    return [*options, ("grpc.ssl_target_name_override", name)] if name else options


def address_text(host: str, port: int) -> str:
    """host:port, with brackets around an IPv6 address."""
    try:
        is_v6 = ipaddress.ip_address(host).version == 6
    except ValueError:
        is_v6 = False
    return f"[{host}]:{port}" if is_v6 else f"{host}:{port}"
