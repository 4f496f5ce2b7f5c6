"""The README's code runs: every python block is a doctest, every marked bash block a script.

So do the python blocks of the pages in `PAGES`, each page on its own.

A bash block is run if the line above its fence is `<!-- runs -->`. The blocks run in the README's
order, in one fresh folder, so that a later one may use what an earlier one made.
"""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from abtest.split.config import parse_config

README = Path(__file__).resolve().parent.parent / "README.md"
PAGES = (README, README.parent / "docs" / "operators.md")
BASH = re.compile(r"^<!-- runs -->\n+```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
TOML = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_bash(blocks: list[str], folder: Path) -> None:
    """Run each block in `folder` and fail with its output where it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for block in blocks:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block],
            cwd=folder,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"


def run_python(blocks: list[str], page: Path = README) -> None:
    """Run the blocks as one doctest, so that names carry over."""
    for block in blocks:
        assert ">>>" in block, f"a python block has no >>> prompt and proves nothing:\n{block}"
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page.name, str(page), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    report: list[str] = []
    failed = runner.run(test, out=report.append).failed
    assert failed == 0, "".join(report)


@pytest.mark.slow
def test_readme_bash_blocks_run(tmp_path: Path) -> None:
    blocks = BASH.findall(README.read_text())
    assert blocks, "no bash block of the README is marked with <!-- runs -->"
    run_bash(blocks, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_are_true(page: Path) -> None:
    blocks = PYTHON.findall(page.read_text())
    assert blocks
    run_python(blocks, page)


def test_readme_s_experiment_is_the_one_the_demo_runs() -> None:
    (shown,) = TOML.findall(README.read_text())
    shipped = (README.parent / "abtest" / "configs" / "dftopk-vs-baseline.toml").read_text()
    assert parse_config(shown) == parse_config(shipped)


def test_only_marked_blocks_are_run() -> None:
    text = "```bash\nmake demo\n```\n\n<!-- runs -->\n```bash\necho a\necho b\n```\n"
    assert BASH.findall(text) == ["echo a\necho b\n"]


def test_blocks_share_a_folder_and_a_failing_one_is_shown(tmp_path: Path) -> None:
    run_bash(["echo kept > file", "grep kept file"], tmp_path)
    with pytest.raises(AssertionError, match=r"false \| true\n(.|\n)*before"):
        run_bash(["echo before; false | true"], tmp_path)


def test_a_wrong_doctest_and_a_block_without_one_are_shown() -> None:
    run_python([">>> x = 1\n", ">>> x + 1\n2\n"])
    with pytest.raises(AssertionError, match=r"Expected:\n +3\n *Got:\n +2"):
        run_python([">>> 1 + 1\n3\n"])
    with pytest.raises(AssertionError, match=r"no >>> prompt"):
        run_python(["x = 1\n"])
