"""Settings of the server, read from `CASCADE_*` environment variables."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from serving.telemetry.logs import LogFormat


class Settings(BaseSettings):
    """Where the server listens, what it serves and where it keeps its data."""

    model_config = SettingsConfigDict(
        env_prefix="CASCADE_", frozen=True, extra="forbid", env_ignore_empty=True
    )

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    data_dir: Path = Path("var")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    redis_url: str | None = None
    """Redis or Valkey to use; without one the server starts its own under `data_dir`."""
    max_body_bytes: int = Field(default=1_000_000, ge=1)
    deadline_ms: float = Field(default=500.0, ge=1, le=60_000)
    """Time to answer a request that names none in `X-Deadline-Ms`."""
    workers: int = Field(default=1, ge=1, le=256)
    """Processes that answer; about one a core."""
    worker_number: int = Field(default=0, ge=0)
    """Which of them this is: set by the master, not by people."""
    max_under_way: int = Field(default=64, ge=1)
    """Requests that a worker takes on at once; more are turned away with 503."""
    max_batch: int = Field(default=8, ge=1)
    """Requests of one bundle that are scored together at most."""
    archive_interval_s: float = Field(default=30.0, gt=0)
    retention_days: int | None = Field(default=None, ge=1, le=100_000)
    """Archived days that are older are removed; without it all are kept."""
    report_interval_s: float = Field(default=60.0, gt=0)
    api_keys: str | None = None
    """API keys beside those in `keys.toml`: `NAME:SCOPE+SCOPE:SHA256[:RATE_PER_S]`, by commas."""
    signing_key: str | None = Field(default=None, repr=False)
    """Signs request ids; without one the server keeps one of its own under `data_dir`."""
    rate_per_s: float | None = Field(default=None, gt=0)
    """Requests a second that a worker takes of an API key which has no rate of its own."""
    address_rate_per_s: float | None = Field(default=None, gt=0)
    """Requests a second that a worker takes of a client address where there are no API keys."""
    log_format: LogFormat = "auto"
    """`auto` is text in a terminal and JSON elsewhere."""
    access_log_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the requests that are logged."""
    trace_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the requests that are traced, of those that come without a decision."""

    def as_environment(self) -> dict[str, str]:
        """Variables from which another process of the same server reads the same settings."""
        given = self.model_dump(mode="json", exclude_none=True, exclude={"worker_number"})
        return {f"CASCADE_{name.upper()}": str(value) for name, value in given.items()}

    @property
    def experiments_path(self) -> Path:
        """The experiment configuration."""
        return self.data_dir / "experiments.toml"

    @property
    def rules_path(self) -> Path:
        """The business rules; there need be none."""
        return self.data_dir / "rules.toml"

    @property
    def bundles_dir(self) -> Path:
        """Folder whose sub-folders are bundles."""
        return self.data_dir / "bundles"

    @property
    def valkey_dir(self) -> Path:
        """Data of the embedded Valkey."""
        return self.data_dir / "valkey"

    @property
    def choices_path(self) -> Path:
        """Which bundle folders were activated, for a start without the store."""
        return self.data_dir / "bundles.json"

    @property
    def journal_dir(self) -> Path:
        """Events that the store may not have yet."""
        return self.data_dir / "journal"

    @property
    def events_dir(self) -> Path:
        """Archived events."""
        return self.data_dir / "events"

    @property
    def rollups_dir(self) -> Path:
        """What was added up of the archived events."""
        return self.data_dir / "rollups"

    @property
    def reports_dir(self) -> Path:
        """Reports of the experiments."""
        return self.data_dir / "reports"

    @property
    def metrics_path(self) -> Path:
        """Metrics beside the built-in ones; there need be none."""
        return self.data_dir / "metrics.toml"

    @property
    def currencies_path(self) -> Path:
        """Exchange rates; there need be none."""
        return self.data_dir / "currencies.toml"
