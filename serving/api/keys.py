"""Keys: who may ask, kept as hashes in a file or in the environment.

A key is 256 random bits, so one fast hash is enough: there is nothing to guess, and a slow hash
would only cost every request.
"""

import fcntl
import hashlib
import os
import re
import secrets
import tomllib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from serving.api import private_file

KEYS_FILE = "keys.toml"
TOKEN_PREFIX = "cascade_"
"""By which scanners for leaked secrets can find a key."""

RECOMMEND, EVENTS, EXPLAIN = "recommend", "events", "explain"
METRICS, EXPERIMENTS, ADMIN = "metrics", "experiments", "admin"
SCOPES = (RECOMMEND, EVENTS, EXPLAIN, METRICS, EXPERIMENTS, ADMIN)
"""What a key may be allowed; `admin` includes the others."""

_HEADER = "# Made by `cascade keys`. Hashes only: a lost key cannot be restored, make a new one.\n"

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Scope = Annotated[str, StringConstraints(pattern=f"^({'|'.join(SCOPES)})$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class KeysError(ValueError):
    """Keys that cannot be used; the message names file or variable, rule and remedy."""


class ApiKey(BaseModel):
    """A key as it is kept: never the key itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    scopes: frozenset[Scope] = Field(min_length=1)
    sha256: Sha256
    created: datetime | None = None
    rate_per_s: float | None = Field(default=None, gt=0)
    """Requests a second this key is good for; the server's setting if absent."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    keys: tuple[ApiKey, ...] = ()


def new_token() -> str:
    """A key nobody can guess: 256 random bits in 43 characters after a prefix."""
    return TOKEN_PREFIX + secrets.token_urlsafe(32)


def hashed(token: str) -> str:
    """The SHA-256 of a key, in hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_keys(path: Path) -> tuple[ApiKey, ...]:
    """The keys in a file; none if there is no file.

    Raises:
        KeysError: the file cannot be read, is wrong, or can be written by others.
    """
    try:
        others_write = path.stat().st_mode & 0o022
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise KeysError(f"{path} cannot be read ({error}); make it this user's own") from error
    if others_write:
        raise KeysError(f"{path} can be written by other users; run `chmod 600 {path}`")
    try:
        keys = _File.model_validate(tomllib.loads(text)).keys
    except tomllib.TOMLDecodeError as error:
        raise KeysError(f"{path} is no TOML: {error}; restore it, or remove it") from error
    except ValidationError as error:
        raise KeysError(f"{path}: {_first_fault(error)}; correct it") from error
    return distinct(keys, str(path))


def write_keys(path: Path, keys: Iterable[ApiKey]) -> None:
    """Write the keys of a file, readable by its owner only."""
    private_file.replace(path, _HEADER + "".join(map(_as_toml, keys)))


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Keep others from changing the keys of a file between reading and writing it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def new_key(name: str, scopes: Iterable[str], rate_per_s: float | None) -> tuple[ApiKey, str]:
    """A key to keep, and the token to give away; nothing kept leads back to the token.

    Raises:
        KeysError: name, scopes or rate are not allowed.
    """
    token = new_token()
    created = datetime.now(UTC).replace(microsecond=0)
    try:
        key = ApiKey(
            name=name,
            scopes=frozenset(scopes),
            sha256=hashed(token),
            created=created,
            rate_per_s=rate_per_s,
        )
    except ValidationError as error:
        raise KeysError(_first_fault(error)) from error
    return key, token


def as_variable(key: ApiKey) -> str:
    """A key as an entry of `CASCADE_API_KEYS`: `NAME:SCOPE+SCOPE:SHA256[:RATE_PER_S]`."""
    rate = "" if key.rate_per_s is None else f":{key.rate_per_s:g}"
    return f"{key.name}:{'+'.join(sorted(key.scopes))}:{key.sha256}{rate}"


def parse_variable(text: str) -> tuple[ApiKey, ...]:
    """The keys in `CASCADE_API_KEYS`: entries separated by commas or blanks.

    Raises:
        KeysError: an entry is wrong; its hash is not repeated.
    """
    keys = []
    for entry in filter(None, re.split(r"[,\s]+", text)):
        name, *rest = entry.split(":")
        if len(rest) not in (2, 3):
            raise KeysError(
                f"CASCADE_API_KEYS: entry {name!r} has {len(rest) + 1} parts and needs "
                "NAME:SCOPE+SCOPE:SHA256[:RATE_PER_S]; `cascade keys create --env` prints one"
            )
        entry_of: dict[str, object] = {"name": name, "sha256": rest[1]}
        entry_of["scopes"] = rest[0].split("+")
        entry_of["rate_per_s"] = rest[2] if len(rest) == 3 else None
        try:
            keys.append(ApiKey.model_validate(entry_of))
        except ValidationError as error:
            fault = _first_fault(error)
            raise KeysError(f"CASCADE_API_KEYS, entry {name!r}: {fault}; correct it") from error
    return distinct(tuple(keys), "CASCADE_API_KEYS")


def distinct(keys: tuple[ApiKey, ...], where: str) -> tuple[ApiKey, ...]:
    """The same keys, whose names must differ.

    Raises:
        KeysError: two share a name; `where` says where they stand.
    """
    names = [key.name for key in keys]
    for name in names:
        if names.count(name) > 1:
            raise KeysError(f"{where}: the name {name!r} is taken twice; revoke one of them")
    return keys


def _as_toml(key: ApiKey) -> str:
    # Names, scopes and hashes hold no character that TOML would escape.
    scopes = ", ".join(f'"{scope}"' for scope in sorted(key.scopes))
    lines = [
        "[[keys]]",
        f'name = "{key.name}"',
        f"scopes = [{scopes}]",
        f'sha256 = "{key.sha256}"',
    ]
    if key.created is not None:
        lines.append(f"created = {key.created.isoformat()}")
    if key.rate_per_s is not None:
        lines.append(f"rate_per_s = {key.rate_per_s!r}")
    return "\n" + "\n".join(lines) + "\n"


def _first_fault(error: ValidationError) -> str:
    fault = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in fault["loc"])
    if "sha256" in fault["loc"]:
        return f"{where} must be 64 hexadecimal digits"
    if "scopes" in fault["loc"] and fault["type"] == "string_pattern_mismatch":
        return f"scope {fault['input']!r} is unknown; there are {', '.join(SCOPES)}"
    return f"{where} = {fault['input']!r}: {fault['msg']}"
