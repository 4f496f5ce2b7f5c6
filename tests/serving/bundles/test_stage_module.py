"""Stages as the server loads them: tables mapped from their files, and written to by one alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from serving.bundles.stage_module import load_stage
from tests.serving.world import N_ITEMS, SPARE_ROWS, write_tiny_bundle
from training.bundle import MANIFEST, Bundle, BundleError, open_bundle, sha256_of

CPU = torch.device("cpu")
NUMBERS = "rank.number_R.npy"
ROWS = 1 + N_ITEMS + SPARE_ROWS
FIRST_SPARE = N_ITEMS + 1


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return write_tiny_bundle(tmp_path / "tiny")


def ask(rows: list[int]) -> tuple[Tensor, ...]:
    """A request of nobody in particular for these rows."""
    nothing = torch.zeros(1, 1, dtype=torch.int64)
    return (
        nothing + 1,
        nothing,
        nothing,
        nothing.float(),
        nothing[0],
        nothing[0],
        torch.tensor([rows]),
    )


def put(module: torch.jit.ScriptModule, row: int, popularity: float) -> None:
    """A red item."""
    one = torch.tensor([[1]])
    module.put_items(torch.tensor([row]), one, torch.ones(1), torch.tensor([popularity]))


def test_an_item_put_into_a_spare_row_is_scored(bundle: Bundle) -> None:
    retrieval, rank = (load_stage(bundle, stage, CPU) for stage in bundle.manifest.stages)
    rows = [FIRST_SPARE, FIRST_SPARE + 1, 1]
    assert retrieval(*ask(rows))[0].tolist() == pytest.approx([0, 0, 1 + 39 / 400])
    assert rank(*ask(rows))[0].tolist() == [0, 0, 1]
    for module in (retrieval, rank):
        put(module, FIRST_SPARE, 100.0)
    assert retrieval(*ask(rows))[0].tolist() == pytest.approx([1.25, 0, 1 + 39 / 400])
    assert rank(*ask(rows))[0].tolist() == [41, 0, 1]
    vector_ND = retrieval.encode_items(torch.tensor([FIRST_SPARE]))
    assert vector_ND.tolist() == [[1.0, 0.0, 0.25]]


def test_what_one_worker_writes_is_neither_in_the_file_nor_at_another(bundle: Bundle) -> None:
    stage = bundle.manifest.stages[1]
    one, other = load_stage(bundle, stage, CPU), load_stage(bundle, stage, CPU)
    put(one, FIRST_SPARE, 1.0)
    assert one(*ask([FIRST_SPARE]))[0].tolist() == [41]
    assert other(*ask([FIRST_SPARE]))[0].tolist() == [0]
    assert open_bundle(bundle.path) == bundle


def test_a_table_is_mapped_and_not_read(bundle: Bundle) -> None:
    module = load_stage(bundle, bundle.manifest.stages[1], CPU)
    address = module.number_R.data_ptr()
    maps = Path("/proc/self/maps")
    if not maps.exists():
        pytest.skip("only Linux tells what is mapped where")
    for line in maps.read_text().splitlines():
        begin, end = (int(part, 16) for part in line.split()[0].split("-"))
        if begin <= address < end:
            assert line.endswith(NUMBERS)
            return
    raise AssertionError(f"{address:x} is mapped nowhere")


def rewritten(bundle: Bundle, write: Callable[[Path], object]) -> Bundle:
    """The bundle with another table of numbers and its checksum renewed."""
    file = bundle.file(NUMBERS)
    write(file)
    files = bundle.manifest.files | {NUMBERS: sha256_of(file)}
    manifest = bundle.manifest.model_copy(update={"files": files})
    bundle.file(MANIFEST).write_text(manifest.model_dump_json())
    return open_bundle(bundle.path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: p.write_bytes(b"x" * 200), f"table {NUMBERS} cannot be mapped \\("),
        (
            lambda p: np.save(p, np.zeros(7, dtype=np.float32)),
            f"table {NUMBERS} has 7 rows, the items and the spare rows make {ROWS}; export the run",
        ),
        (
            lambda p: np.save(p, np.zeros((ROWS, 2), dtype=np.int64)),
            r"expects torch.float32 \[\] a row of number_R, the table has torch.int64 \[2\];",
        ),
    ],
)
def test_tables_that_do_not_fit(
    bundle: Bundle, write: Callable[[Path], object], message: str
) -> None:
    damaged = rewritten(bundle, write)
    with pytest.raises(BundleError, match=message):
        load_stage(damaged, damaged.manifest.stages[1], CPU)


def test_a_table_without_its_buffer(bundle: Bundle) -> None:
    tables = {"rank.pt": {"numbers.number_R": NUMBERS}}
    manifest = bundle.manifest.model_copy(update={"tables": tables})
    renamed = bundle.model_copy(update={"manifest": manifest})
    with pytest.raises(BundleError, match=r"rank\.pt has no buffer numbers\.number_R for its tabl"):
        load_stage(renamed, renamed.manifest.stages[1], CPU)


def test_a_file_that_is_no_module(bundle: Bundle) -> None:
    bundle.file("rank.pt").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"rank\.pt is no TorchScript module this torch \("):
        load_stage(bundle, bundle.manifest.stages[1], CPU)
