import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.abtest.log.mortal import Mortal


@pytest.fixture
def mortal() -> Iterator[Mortal]:
    folder = Path(tempfile.mkdtemp(prefix="mortal-", dir="/tmp"))
    store = Mortal(folder)
    yield store
    store.stop()
    shutil.rmtree(folder)
