"""The fused kernel for GPUs: interpreted on the CPU, compiled without a device, run on one."""

import os
import subprocess
import sys
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from operators import topk_cross_entropy
from operators.kernels import triton_cross_entropy
from operators.kernels.triton_cross_entropy import (
    LIMIT,
    SHIFTS,
    dftopk_cross_entropy,
    supports,
    try_dftopk_cross_entropy,
)

ROOT = Path(__file__).parents[3]

needs_triton = pytest.mark.skipif(
    find_spec("triton") is None, reason="needs Triton, a large wheel: pip install triton"
)
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("file", ["triton_interpreted.py", "test_cross_entropy.py"])
def test_agrees_with_the_reference_in_the_interpreter(file: str) -> None:
    path = str(Path(__file__).with_name(file))
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not gpu", path],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


@needs_triton
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("optional", [True, False])
@pytest.mark.parametrize(
    ("n", "dtype"), [(40, "fp32"), (1000, "fp32"), (1000, "bf16"), (LIMIT, "fp16")]
)
def test_compiles_without_a_device(
    n: int,
    dtype: str,
    optional: bool,
    capability: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    compiled = _compile(n, dtype, optional, capability)
    assert compiled.asm["cubin"]
    assert "ex2.approx.ftz.f32" in compiled.asm["ptx"]
    assert "rcp.approx.ftz.f32" in compiled.asm["ptx"]
    if dtype == "fp32" and not optional:
        assert "ld.global.v4.b32" in compiled.asm["ptx"]
        assert "st.global.v4.b32" in compiled.asm["ptx"]


def _compile(n: int, dtype: str, optional: bool, capability: int) -> Any:  # noqa: ANN401
    compiler = import_module("triton.compiler")
    target = import_module("triton.backends.compiler").GPUTarget("cuda", capability, 32)
    from operators.kernels.triton_program import dftopk_cross_entropy as kernel

    kinds = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    tile = triton_cross_entropy._tile(n, kinds[dtype])
    warps = tile.pop("num_warps")
    given = {"labels": "*u8", "scores": f"*{dtype}", "sums": "*fp32"}
    given |= {"k": "i32", "units": "i32", "rows": "i32", "inverse_tau": "fp32"}
    given["grad"] = "*bf16" if dtype == "bf16" else "*fp32"
    if optional:
        given |= {"mask": "*u8", "k_rows": "*i64", "weights": "*fp32"}
    signature = {name: given.get(name, "constexpr") for name in kernel.arg_names}
    constants: dict[str, Any] = {**tile, "SHIFT": SHIFTS[kinds[dtype]], "PTX": True}
    aligned = [["tt.divisibility", 16]]
    source = compiler.ASTSource(
        kernel,
        signature,
        {name: constants.get(name) for name, kind in signature.items() if kind == "constexpr"},
        {(i,): aligned for i, kind in enumerate(signature.values()) if kind.startswith("*")},
    )
    options = {"num_warps": warps, "enable_fp_fusion": True}
    return compiler.compile(source, target=target, options=options)


@pytest.mark.gpu
@needs_gpu
@needs_triton
@pytest.mark.parametrize("n", [2, 40, 160, 1000, 1001, 5000, LIMIT])
@pytest.mark.parametrize("k_of_each_row", [False, True])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_agrees_with_torch_on_a_device(
    n: int, k_of_each_row: bool, masked: bool, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(n)
    scores = torch.randn(67, n, generator=generator).to("cuda", dtype)
    labels = (torch.rand(67, n, generator=generator) < 0.3).cuda()
    mask = (torch.rand(67, n, generator=generator) < 0.8).cuda() if masked else None
    weights = torch.rand(67, generator=generator).cuda() if masked else None
    k: int | Tensor = (n + 3) // 4
    if k_of_each_row:
        k = torch.randint(0, n + 2, (67,), generator=generator).cuda()
    assert supports(scores)
    loss, grad, factor = dftopk_cross_entropy(scores, labels, k, 0.5, mask, weights, True)
    wide = scores.double().requires_grad_()
    expected = topk_cross_entropy(wide, labels, k, "dftopk", 0.5, mask, weights)
    expected.backward()
    assert grad is not None
    assert wide.grad is not None
    torch.testing.assert_close(loss.double(), expected.detach(), rtol=1e-5, atol=0)
    scale = wide.grad.abs().amax(-1, keepdim=True)
    step = max(torch.finfo(grad.dtype).eps, 2e-6)
    assert bool(((grad.double() * factor - wide.grad).abs() <= 2 * step * scale).all())
    again, same, _ = dftopk_cross_entropy(scores, labels, k, 0.5, mask, weights, True)
    assert torch.equal(loss, again)
    assert same is not None
    assert torch.equal(grad, same)


@pytest.mark.parametrize(
    ("n", "dtype", "is_cuda", "installed", "expected"),
    [
        (LIMIT, torch.float32, True, True, True),
        (2, torch.bfloat16, True, True, True),
        (LIMIT + 1, torch.float32, True, True, False),
        (40, torch.float64, True, True, False),
        (40, torch.float32, False, True, False),
        (40, torch.float32, True, False, False),
    ],
)
def test_supports(
    n: int,
    dtype: torch.dtype,
    is_cuda: bool,
    installed: bool,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(triton_cross_entropy, "_installed", lambda: installed)
    scores = SimpleNamespace(shape=(3, n), dtype=dtype, is_cuda=is_cuda)
    assert supports(cast(Tensor, scores)) is expected


def test_a_failure_warns_once_and_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("Failed to find C compiler")

    monkeypatch.setattr(triton_cross_entropy, "_failures", [])
    monkeypatch.setattr(triton_cross_entropy, "_installed", lambda: True)
    monkeypatch.setattr(triton_cross_entropy, "dftopk_cross_entropy", fail)
    on_device = cast(Tensor, SimpleNamespace(shape=(3, 4), dtype=torch.float32, is_cuda=True))
    assert supports(on_device)
    scores = torch.zeros(3, 4)
    with pytest.warns(
        RuntimeWarning,
        match=r"Triton kernel of DFTopK failed \(RuntimeError: Failed to find C compiler\); torch "
        r"operations, slower but equal in result, run instead .* install the triton that",
    ):
        assert try_dftopk_cross_entropy(scores, scores > 0, 1, 1.0, None, None, True) is None
    assert not supports(on_device)
    with warnings.catch_warnings(record=True) as caught:
        assert try_dftopk_cross_entropy(scores, scores > 0, 1, 1.0, None, None, True) is None
    assert caught == []


def test_running_out_of_memory_is_no_failure_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(triton_cross_entropy, "_failures", [])
    monkeypatch.setattr(triton_cross_entropy, "dftopk_cross_entropy", fail)
    scores = torch.zeros(3, 4)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        try_dftopk_cross_entropy(scores, scores > 0, 1, 1.0, None, None, True)
    assert triton_cross_entropy._failures == []


@pytest.mark.parametrize("dtype", list(SHIFTS))
def test_a_tile_holds_whole_rows_in_32_entries_a_lane(dtype: torch.dtype) -> None:
    for n in (*range(2, 300), 1000, 1024, 1025, 5000, LIMIT):
        tile = triton_cross_entropy._tile(n, dtype)
        width = tile["SLICES"] * tile["COLUMNS"]
        assert n <= width < max(2 * n, 33)
        assert n % tile["UNIT"] == 0
        assert tile["ROWS"] * width == 32 * 32 * tile["num_warps"]
        assert all(value & (value - 1) == 0 for value in tile.values())


def test_importing_the_operators_imports_no_triton(tmp_path: Path) -> None:
    (tmp_path / "triton.py").write_text("")
    script = (
        "import sys, torch; sys.modules.pop('triton', None); "
        "import operators, operators.kernels.triton_cross_entropy; "
        "assert 'triton' not in sys.modules; import triton; assert triton.__file__.endswith('n.py')"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": path}, check=True
    )
