import os
import pickle
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.recflow.log import LogError
from training.recflow.unpickling import load_pickle


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_containers_come_back(tmp_path: Path, protocol: int) -> None:
    lists: defaultdict[str, Any] = defaultdict(tuple)
    lists["rank_pos"] = np.arange(16).reshape(2, 8)
    lists["none"] = np.zeros((0, 8), np.int64)
    content = {np.int64(7): lists, 8: OrderedDict(a=[1, (2, "x")])}
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(content, protocol))

    loaded = load_pickle(tmp_path / "file.pkl")

    assert isinstance(loaded, dict)
    assert list(loaded) == [7, 8]
    np.testing.assert_array_equal(loaded[7]["rank_pos"], lists["rank_pos"])
    assert loaded[7]["none"].shape == (0, 8)
    assert loaded[7]["missing"] == ()
    assert loaded[8] == {"a": [1, (2, "x")]}


@pytest.mark.parametrize(("factory", "empty"), [(b"tuple", ()), (b"str", "")])
def test_the_publishers_own_factories_are_replaced(
    tmp_path: Path, factory: bytes, empty: object
) -> None:
    factories = b"ccollections\ndefaultdict\n(cutils\ndefaultdict_" + factory + b"\ntR."
    (tmp_path / "file.pkl").write_bytes(factories)

    loaded = load_pickle(tmp_path / "file.pkl")

    assert isinstance(loaded, defaultdict)
    assert loaded["request"]["list"] == empty


class _Attack:
    def __init__(self, victim: Path) -> None:
        self._victim = victim

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self._victim}",)


def test_a_pickle_that_would_run_a_command_is_refused(tmp_path: Path) -> None:
    victim, file = tmp_path / "victim", tmp_path / "attack.pkl"
    file.write_bytes(pickle.dumps({1: _Attack(victim)}))

    with pytest.raises(LogError, match=r"attack\.pkl holds posix\.system, which is no part of a"):
        load_pickle(file)

    assert not victim.exists()
    pickle.loads(file.read_bytes())  # the attack itself works
    assert victim.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"cbuiltins\neval\n(V1+1\ntR.", r"holds builtins\.eval"),
        (b"cnumpy\nload\n(V/tmp/x\ntR.", r"holds numpy\.load"),
        (b"c_codecs\nencode\n(Vx\nVrot13\ntR.", "bytes are encoded as 'rot13', not as latin1"),
        (pickle.dumps({1: np.arange(9)})[:-9], r"file\.pkl cannot be read \(.*cut off or damaged"),
        (b"", r"file\.pkl cannot be read \(EOFError.*download it again"),
    ],
)
def test_what_cannot_be_loaded_says_why(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file.pkl").write_bytes(content)
    with pytest.raises(LogError, match=message):
        load_pickle(tmp_path / "file.pkl")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(LogError, match=r"none\.pkl is missing; download it again"):
        load_pickle(tmp_path / "none.pkl")
