"""Facts about the repository that rot unseen: import rules, packaging, Makefile, container."""

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["importlinter"]["root_packages"]


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def copy_sources(target: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", target)
    for package in PACKAGES:
        shutil.copytree(
            ROOT / package, target / package, ignore=shutil.ignore_patterns("__pycache__")
        )


@pytest.mark.parametrize(
    ("contract", "file", "illegal"),
    [
        ("operators", "operators/hard.py", "import training.features"),
        ("abtest", "abtest/events.py", "import training.features"),
        (
            "analysis",
            "abtest/analysis/statistics/looks.py",
            "import abtest.analysis.readings.panel",
        ),
        ("splitter", "abtest/events.py", "import duckdb"),
        ("training", "training/features.py", "import abtest.events"),
        ("leaves", "training/features.py", "import training.losses"),
        ("serving", "serving/api/schemas.py", "import training.losses"),
        ("serving", "serving/api/schemas.py", "import operators"),
        ("loadtest", "loadtest/__init__.py", "import serving.api.schemas"),
    ],
)
def test_a_broken_import_rule_is_found(
    tmp_path: Path, contract: str, file: str, illegal: str
) -> None:
    copy_sources(tmp_path)
    lint = (BIN / "lint-imports", "--no-cache", "--contract", contract)
    kept = run(*lint, cwd=tmp_path)
    assert kept.returncode == 0, kept.stdout
    assert "1 kept, 0 broken" in kept.stdout
    with (tmp_path / file).open("a") as source:
        source.write(f"\n{illegal}\n")
    broken = run(*lint, cwd=tmp_path)
    assert broken.returncode == 1
    assert "0 kept, 1 broken" in broken.stdout


def test_every_import_rule_is_shown_to_fail() -> None:
    (marker,) = test_a_broken_import_rule_is_found.pytestmark  # type: ignore[attr-defined]
    shown = {case[0] for case in marker.args[1]}
    assert shown == {contract["id"] for contract in PROJECT["tool"]["importlinter"]["contracts"]}


def test_operators_need_nothing_but_torch_and_numpy() -> None:
    allowed = {*sys.stdlib_module_names, "operators", "torch", "numpy"}
    allowed.add("triton")  # optional, and looked for only where there is a GPU
    for path in (ROOT / "operators").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert {name.split(".")[0] for name in names} <= allowed, path


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    code = "import sys, cli; print({'torch', 'faiss', 'duckdb', 'fastapi'} & set(sys.modules))"
    assert run(sys.executable, "-c", code).stdout.strip() == "set()"


@pytest.mark.parametrize("target", ["demo", "test", "check", "bench", "serve", "loadtest"])
def test_make_target_stands_on_the_environment(target: str) -> None:
    plan = run("make", "--dry-run", "--always-make", target)
    assert plan.returncode == 0, plan.stderr
    assert "pip install -e '.[cpu,dev]'" in plan.stdout


def test_make_names_a_python_that_is_too_old(tmp_path: Path) -> None:
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    old = tmp_path / "old-python"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.10.4 && exit 0\nexit 1\n')
    old.chmod(0o755)
    made = run("make", "test", f"PYTHON={old}", cwd=tmp_path)
    assert made.returncode != 0
    assert f"Python 3.11 or newer is needed and {old} is: Python 3.10.4." in made.stderr
    assert not (tmp_path / ".venv").exists()


def test_container_is_made_of_what_the_project_has() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    stages = set(re.findall(r"^FROM .* AS (\S+)$", dockerfile, re.MULTILINE))
    assert {"cpu", "cuda"} <= stages
    assert set(re.findall(r"COPY --from=(\S+)", dockerfile)) <= stages
    extras = set(re.findall(r"'\.\[(\w+)\]'", dockerfile))
    assert extras == {"cpu", "gpu"} <= set(PROJECT["project"]["optional-dependencies"])
    sent = set((ROOT / ".dockerignore").read_text().split())
    needed = {*PACKAGES, "demo.py", "pyproject.toml"}
    assert {f"!{name}" for name in needed} <= sent
    assert re.search(r"^USER cascade$", dockerfile, re.MULTILINE)


def test_container_s_command_is_one_that_cascade_knows() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    command = json.loads(re.findall(r"^CMD (\[.*\])$", dockerfile, re.MULTILINE)[-1])
    assert command[:2] == ["cascade", "serve"]
    offered = run(BIN / command[0], command[1], "--help")
    assert offered.returncode == 0, offered.stderr
    for option in (word for word in command if word.startswith("--")):
        assert option in offered.stdout


def test_container_and_compose_name_routes_and_settings_that_exist() -> None:
    routes = "\n".join(path.read_text() for path in (ROOT / "serving").rglob("*.py"))
    for route in re.findall(r"127\.0\.0\.1:8000(/\w+)", (ROOT / "Dockerfile").read_text()):
        assert f'"{route}"' in routes
    compose = (ROOT / "compose.yaml").read_text()
    settings = (ROOT / "serving" / "settings.py").read_text()
    for variable in re.findall(r"^\s+CASCADE_(\w+):", compose, re.MULTILINE):
        assert re.search(rf"^    {variable.lower()}:", settings, re.MULTILINE)
    published = re.findall(r'^\s+- "(.*):8000"$', compose, re.MULTILINE)
    assert published
    assert all(address.startswith("127.0.0.1:") for address in published)
    assert '"--appendonly", "yes", "--appendfsync", "always"' in compose


@pytest.mark.parametrize("compiler", ["one that works", "none"])
def test_the_wheel_holds_every_module_and_data_file(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_sources(tmp_path)
    for name in ("demo.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for variable, name in (("CC", "cc"), ("CXX", "c++")):
        hasty = tmp_path / f"hasty-{name}"  # what is built is looked for, and not run
        hasty.write_text(f'#!/bin/sh\nexec {name} "$@" -O0\n')
        hasty.chmod(0o755)
        monkeypatch.setenv(variable, f"/nowhere/{name}" if compiler == "none" else str(hasty))
    build = "import setuptools.build_meta as b; print(b.build_wheel('.'))"
    built = run(sys.executable, "-c", build, cwd=tmp_path)
    assert built.returncode == 0, built.stderr
    listed = run(sys.executable, "-m", "zipfile", "-l", str(next(tmp_path.glob("*.whl"))))
    held = set(re.findall(r"^(\S+)", listed.stdout, re.MULTILINE))
    suffixes = {".py", ".toml", ".html", ".css", ".js", ".svg", ".typed"}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*"):
            if path.suffix in suffixes:
                assert str(path.relative_to(ROOT)) in held
    libraries = ("operators/kernels/cpu/_kernels.", "training/kernels/_kernels.")
    compiled = [name for name in held if name.startswith(libraries)]
    expected = compiler != "none" and shutil.which("c++") is not None
    assert len(compiled) == len(libraries) * int(expected)
