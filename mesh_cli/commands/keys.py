"""`mesh keys`: API keys, of which only hashes are stored."""

from __future__ import annotations

import datetime
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from inference_mesh.config.keys_file import ApiKey, id_of, new_key
from inference_mesh.config.limits import PERIODS_S, LimitsSpec, TokenBudgetSpec
from inference_mesh.config.tenants_file import TENANT_NAME
from mesh_cli.commands.options import AsJson, Context, PrintOnly
from mesh_cli.errors import UsageError
from mesh_cli.keys_edit import KeysInCluster, KeysInFile, KeyStore
from mesh_cli.kubectl import Cluster
from mesh_cli.secret_manifests import GATEWAY_KEYS, as_yaml, with_keys

SCOPES = ("infer", "admin")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
MAX_DURATION_S = 100 * 365 * 86_400

DEFAULT_FILE = Path("keys.yaml")

KeysFile = Annotated[
    Path | None, typer.Option("--file", "-f", help="The keys file.", show_default=str(DEFAULT_FILE))
]
Kubernetes = Annotated[
    bool,
    typer.Option("--kubernetes", help=f"Use {GATEWAY_KEYS} of a cluster in place of a file, by kubectl."),
]
Which = Annotated[str, typer.Argument(metavar="KEY", help="Id of the key, or the key itself.")]
ExpiresIn = Annotated[
    str | None, typer.Option("--expires-in", help="When it ends, e.g. 90m, 12h, 30d, 4w; default: never.")
]


def make_app() -> typer.Typer:
    """The commands below `mesh keys`."""
    app = typer.Typer(help="Make, list, renew and revoke API keys.", no_args_is_help=True)
    app.command("create")(create)
    app.command("list")(list_keys)
    app.command("revoke")(revoke)
    app.command("rotate")(rotate)
    return app


def create(
    file: KeysFile = None,
    kubernetes: Kubernetes = False,
    context: Context = None,
    print_only: PrintOnly = False,
    tenant: Annotated[str, typer.Option(help="Whom the key belongs to.")] = "default",
    scope: Annotated[list[str] | None, typer.Option(help="infer or admin; may be repeated.")] = None,
    expires_in: ExpiresIn = None,
    requests_per_second: Annotated[float | None, typer.Option(help="Sustained rate of requests.")] = None,
    burst: Annotated[int | None, typer.Option(help="Requests that may come at once.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Calls at the same time.")] = None,
    tokens: Annotated[
        str | None, typer.Option(help="Token budget: AMOUNT/second, /minute, /hour or /day.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key, show it once, and add its hash to the keys file or the cluster's Secret."""
    store = _store(file, kubernetes, context)
    if print_only and not kubernetes:
        raise UsageError("--print goes with --kubernetes: it shows the Secret in place of applying it")
    scopes = tuple(scope or ("infer",))
    unknown = [name for name in scopes if name not in SCOPES]
    if unknown:
        raise UsageError(f"--scope is '{unknown[0]}'; allowed are {', '.join(SCOPES)}")
    if not TENANT_NAME.fullmatch(tenant):
        raise UsageError("--tenant must have 1 to 64 letters, digits and _ . @ -, a letter or digit first")
    limits = _limits(requests_per_second, burst, concurrency, tokens)
    changes: dict[str, Any] = {}
    if limits != LimitsSpec():
        changes["limits"] = limits
    if expires_in is not None:
        changes["expires"] = _after(_seconds(expires_in, "--expires-in"))
    plain, key = new_key(tenant=tenant, scopes=scopes)  # type: ignore[arg-type]  # checked above
    key = key.model_copy(update=changes)
    if print_only:
        _print_secret(plain, key, as_json)
        return
    with store.changing() as keys:
        keys.append(key)
    note = f"key {key.id} of tenant '{tenant}' was added to {store}, which gateways see {store.reach}"
    _show_new(plain, key, note, as_json=as_json)


def list_keys(
    file: KeysFile = None, kubernetes: Kubernetes = False, context: Context = None, as_json: AsJson = False
) -> None:
    """List the keys, without secrets."""
    keys = _store(file, kubernetes, context).read()
    if as_json:
        print(json.dumps([_facts(key) for key in keys], indent=2))
        return
    for key in keys:
        print("  ".join((key.id, key.tenant, ",".join(key.scopes), *_notes(key))))


def revoke(
    which: Which,
    file: KeysFile = None,
    kubernetes: Kubernetes = False,
    context: Context = None,
    as_json: AsJson = False,
) -> None:
    """Remove a key; a gateway refuses it within seconds of seeing the change."""
    key_id, store = _id(which), _store(file, kubernetes, context)
    with store.changing() as keys:
        key = _found(keys, key_id, store)
        keys.remove(key)
    if as_json:
        print(json.dumps({"id": key.id, "tenant": key.tenant, "revoked": True}))
        return
    print(f"key {key.id} of tenant '{key.tenant}' was removed from {store}; gateways refuse it {store.reach}")
    if not keys:
        print(f"{store} has no keys any more: no call gets in by it", file=sys.stderr)


def rotate(
    which: Which,
    file: KeysFile = None,
    kubernetes: Kubernetes = False,
    context: Context = None,
    overlap: Annotated[str, typer.Option(help="How long the old key still works, e.g. 0s, 24h, 7d.")] = "24h",
    expires_in: Annotated[
        str | None,
        typer.Option("--expires-in", help="When the new key ends, e.g. 30d; needed if the old one ends."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key with the same rights, show it once, and let the old one end after the overlap."""
    key_id, store = _id(which), _store(file, kubernetes, context)
    old_ends = _after(_seconds(overlap, "--overlap"))
    with store.changing() as keys:
        old = _found(keys, key_id, store)
        if _is_over(old):
            raise UsageError(f"key {old.id} has ended already; make a new one with `mesh keys create`")
        if old.expires is not None and expires_in is None:
            raise UsageError(
                f"key {old.id} ends {_text(old.expires)}; --expires-in says when the new one ends"
            )
        plain, fresh = new_key(tenant=old.tenant, scopes=old.scopes)
        ends = None if expires_in is None else _after(_seconds(expires_in, "--expires-in"))
        kept = ("requests_per_second", "burst", "limits")
        fresh = fresh.model_copy(update={**{name: getattr(old, name) for name in kept}, "expires": ends})
        ended = old.model_copy(update={"expires": min(old.expires or old_ends, old_ends)})
        keys[keys.index(old)] = ended
        keys.append(fresh)
    note = f"key {fresh.id} stands in for {old.id}, which works until {_text(ended.expires)}"
    _show_new(plain, fresh, note, as_json=as_json, replaces=ended)


def _store(file: Path | None, kubernetes: bool, context: str | None) -> KeyStore:
    """Where the options say that the keys are. Raises UsageError if they say two things."""
    if kubernetes and file is not None:
        raise UsageError("--file and --kubernetes exclude each other: keys are in a file or in a cluster")
    if context is not None and not kubernetes:
        raise UsageError("--context goes with --kubernetes")
    return KeysInCluster(Cluster(context)) if kubernetes else KeysInFile(file or DEFAULT_FILE)


def _print_secret(plain: str, key: ApiKey, as_json: bool) -> None:
    """The Secret with this one key, for `kubectl apply`; the key itself is no part of it."""
    manifest = with_keys(None, [key])
    if as_json:
        print(json.dumps({**_facts(key), "key": plain, "manifest": manifest}))
        return
    print(as_yaml([manifest]), end="")
    print(
        f"{plain}\nThis is the key; it is not shown again. Its hash is all that the Secret has.",
        file=sys.stderr,
    )
    print("Where the Secret is there already, applying this one takes its other keys away.", file=sys.stderr)


def _show_new(plain: str, key: ApiKey, note: str, *, as_json: bool, replaces: ApiKey | None = None) -> None:
    if not as_json:
        print(plain)
        print(f"{note}; it is not shown again", file=sys.stderr)
        return
    facts = {**_facts(key), "key": plain}
    if replaces is not None:
        facts["replaces"] = {"id": replaces.id, "expires": _text(replaces.expires)}
    print(json.dumps(facts))


def _facts(key: ApiKey) -> dict[str, Any]:
    """What is shown of a key in JSON."""
    facts = key.model_dump(mode="json", exclude={"sha256", "requests_per_second", "burst", "limits"})
    limits = key.all_limits.model_dump(mode="json", exclude_defaults=True)
    return {**facts, "expired": _is_over(key), "limits": limits}


def _notes(key: ApiKey) -> Iterable[str]:
    if key.expires is not None:
        yield f"{'expired' if _is_over(key) else 'expires'} {_text(key.expires)}"
    limits = key.all_limits
    if limits.requests_per_second is not None:
        yield f"{limits.requests_per_second:g} requests/s (burst {limits.burst})"
    if limits.concurrency is not None:
        yield f"{limits.concurrency} at once"
    if limits.tokens is not None:
        yield f"{limits.tokens.amount} tokens/{limits.tokens.per}"


def _limits(
    requests_per_second: float | None, burst: int | None, concurrency: int | None, tokens: str | None
) -> LimitsSpec:
    """The limits of the options. Raises UsageError that names the option."""
    given = {"requests_per_second": requests_per_second, "burst": burst, "concurrency": concurrency}
    try:
        budget = None if tokens is None else _budget(tokens)
        return LimitsSpec.model_validate(
            {name: value for name, value in {**given, "tokens": budget}.items() if value is not None}
        )
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-") if first["loc"] else "--burst"
        raise UsageError(f"{option}: {str(first['msg']).removeprefix('Value error, ')}") from None


def _budget(text: str) -> TokenBudgetSpec:
    amount, _, period = text.partition("/")
    if not amount.isdecimal() or period not in PERIODS_S or not 1 <= int(amount) <= 10**12:
        raise UsageError(f"--tokens is '{text}'; write it as 100000/minute, 1 to 10^12 per {_periods()}")
    return TokenBudgetSpec.model_validate({"amount": int(amount), "per": period})


def _periods() -> str:
    return ", ".join(PERIODS_S)


def _seconds(text: str, option: str) -> int:
    match = re.fullmatch(r"(\d{1,9})([smhdw])", text)
    if match is None or int(match[1]) * SECONDS[match[2]] > MAX_DURATION_S:
        raise UsageError(f"{option} is '{text}'; write it as 90s, 90m, 12h, 30d or 4w, 100 years at most")
    return int(match[1]) * SECONDS[match[2]]


def _after(seconds: int) -> datetime.datetime:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    return now + datetime.timedelta(seconds=seconds)


def _is_over(key: ApiKey) -> bool:
    return key.expires is not None and key.expires <= datetime.datetime.now(datetime.UTC)


def _text(moment: datetime.datetime | None) -> str:
    return "" if moment is None else moment.isoformat().replace("+00:00", "Z")


def _id(which: str) -> str:
    """The id of what was given: it may be the whole key, as when a leaked one is pasted."""
    return id_of(which) or which


def _found(keys: list[ApiKey], key_id: str, store: KeyStore) -> ApiKey:
    for key in keys:
        if key.id == key_id:
            return key
    raise UsageError(f"{store} has no key '{key_id[:16]}'; `mesh keys list {store.option}` shows them")
