"""The kernels under the address and undefined-behaviour sanitizers of the compiler."""

import shutil
import subprocess
from pathlib import Path

import pytest

from training.kernels import library

COMPILER = shutil.which("g++") or shutil.which("clang++")


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="needs g++ or clang++ on the path")
def test_no_kernel_reads_or_writes_what_is_not_its_own(tmp_path: Path) -> None:
    assert COMPILER is not None
    program = tmp_path / "sanitized"
    command = [
        *(COMPILER, "-std=c++17", "-O0", "-pthread", "-w"),
        *("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=off"),
        *("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
        *("-I", str(Path(library.__file__).parent)),
        *(str(Path(__file__).with_name("sanitized.cpp")), "-o", str(program), "-ldl"),
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    ran = subprocess.run([program], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "done\n"), ran.stdout + ran.stderr
