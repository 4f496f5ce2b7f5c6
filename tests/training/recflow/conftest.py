"""A small log of a made-up cascade, as published and prepared."""

from pathlib import Path

import pytest

from training.recflow.generator import generate
from training.recflow.log import PreparedLog
from training.recflow.preparation import prepare


@pytest.fixture(scope="session")
def published_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days of 300 requests as published, with some gaps; tests leave them as they are."""
    out = tmp_path_factory.mktemp("recflow") / "published"
    generate(out, requests=900, days=3, seed=0, short_share=0.1, missing_share=0.02)
    return out


@pytest.fixture(scope="session")
def prepared_log(published_log: Path) -> PreparedLog:
    """The same, prepared."""
    out = published_log.with_name("prepared")
    prepare(published_log, out)
    return PreparedLog(out)
