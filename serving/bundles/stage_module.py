"""Stage module: one stage of a bundle, its item tables mapped from their files.

Workers share the pages of a mapped table; a page becomes a worker's own when `put_items` writes to
it.
"""

from functools import reduce

import numpy as np
import pyarrow.parquet as pq
import torch
from torch import Tensor

from training.bundle import ITEMS, Bundle, BundleError, Stage

METHODS = ("put_items", "encode_user", "encode_items")
"""What a stage may have beside `forward`."""


def load_stage(bundle: Bundle, stage: Stage, device: torch.device) -> torch.jit.ScriptModule:
    """Load a stage of a verified bundle, ready to score on `device`.

    Args:
        bundle: the bundle.
        stage: one of its manifest.
        device: the CPU maps the tables copy-on-write, a GPU gets a copy of them.

    Raises:
        BundleError: the module or a table cannot be read, or they do not fit together.
    """
    module = _load(bundle, stage.module, device)
    tables = bundle.manifest.tables.get(stage.module, {})
    rows = 1 + pq.read_metadata(bundle.file(ITEMS)).num_rows + bundle.manifest.spare_rows
    for buffer, name in tables.items():
        table = _mapped(bundle, name)
        if len(table) != rows:
            raise BundleError(
                f"{bundle.path}: table {name} has {len(table)} rows, the items and the spare rows "
                f"make {rows}; export the run again"
            )
        _set_table(bundle, stage.module, module, buffer, table.to(device))
    return _frozen(module)


def _load(bundle: Bundle, name: str, device: torch.device) -> torch.jit.ScriptModule:
    try:
        module: torch.jit.ScriptModule = torch.jit.load(bundle.file(name), map_location=device)
    except (RuntimeError, ValueError) as error:
        raise BundleError(
            f"{bundle.path}: {name} is no TorchScript module this torch "
            f"({torch.__version__}) can load ({error}); export the run again"
        ) from error
    return module.eval()


def _mapped(bundle: Bundle, name: str) -> Tensor:
    try:
        return torch.from_numpy(np.load(bundle.file(name), mmap_mode="c"))
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(
            f"{bundle.path}: table {name} cannot be mapped ({error}); export the run again"
        ) from error


def _set_table(
    bundle: Bundle, name: str, module: torch.jit.ScriptModule, buffer: str, table: Tensor
) -> None:
    """Put a table in the place of its stand-in."""
    *path, attribute = buffer.split(".")
    try:
        owner: torch.jit.ScriptModule = reduce(getattr, path, module)
        stand_in: Tensor = getattr(owner, attribute)
    except AttributeError as error:
        raise BundleError(
            f"{bundle.path}: {name} has no buffer {buffer} for its table; export the run again"
        ) from error
    if table.dtype != stand_in.dtype or table.shape[1:] != stand_in.shape[1:]:
        raise BundleError(
            f"{bundle.path}: {name} expects {stand_in.dtype} {list(stand_in.shape[1:])} a row of "
            f"{buffer}, the table has {table.dtype} {list(table.shape[1:])}; export the run again"
        )
    setattr(owner, attribute, table)


def _frozen(module: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """The module with its weights as constants; what `put_items` writes to stays a buffer."""
    methods = [name for name in METHODS if hasattr(module, name)]
    frozen: torch.jit.ScriptModule = torch.jit.freeze(module, preserved_attrs=methods)
    return frozen
