"""Compiled kernels of a package: how their library is found, checked and loaded."""

import ctypes
import sysconfig
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Signatures = Mapping[str, tuple[Any, Sequence[Any]]]
"""Types of the result and of the arguments of each function, as ctypes names them."""


def find(
    folder: Path, package: str, load_from: Callable[[Path], ctypes.CDLL]
) -> ctypes.CDLL | None:
    """The library that was built into a folder, or None and a warning if it cannot be used.

    Args:
        folder: where the package's build puts it.
        package: whose kernels they are, for the warning.
        load_from: loads it; raises `OSError`.
    """
    path = folder / f"_kernels{sysconfig.get_config_var('EXT_SUFFIX')}"
    try:
        return load_from(path)
    except OSError as error:
        reason = "they were not built" if not path.exists() else str(error)
        warnings.warn(
            f"the compiled kernels of {package} cannot be used ({reason}); torch operations, "
            "slower but equal in result, run instead; install a C++ compiler and then this "
            "package again",
            RuntimeWarning,
            stacklevel=3,
        )
        return None


def load(path: Path, version_of: str, version: int, signatures: Signatures) -> ctypes.CDLL:
    """The library at a path, with the types of its functions.

    Args:
        path: of the library.
        version_of: name of its function that returns what sources it was built from.
        version: what that must be.
        signatures: of its other functions.

    Raises:
        OSError: it is missing, is not a library, or was built from other sources.
    """
    loaded = ctypes.CDLL(str(path))
    found = getattr(loaded, version_of, lambda: None)()
    if found != version:
        raise OSError(f"{path.name} has version {found} and must have {version}")
    for name, (result, arguments) in signatures.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded
