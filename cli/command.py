"""The root command: what every subcommand shares.

Libraries are imported inside the commands, so that `cascade --help` is quick.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

COMPLETE_JOURNEY = "complete-journey"
DATA_DIR = Path("var")
PREPARED = DATA_DIR / "data" / COMPLETE_JOURNEY / "prepared"
RECFLOW = "recflow"
LOG = DATA_DIR / "data" / RECFLOW / "prepared"

_OURS = {"abtest", "demo", "loadtest", "operators", "serving", "training"}

F = TypeVar("F", bound=Callable[..., Any])

logger = logging.getLogger("cascade")


class WrongInput(click.ClickException):
    """An error that other input would avoid."""

    exit_code = 2


class Commands(click.Group):
    """Commands whose expected errors end in one line; `--verbose` adds the traceback.

    Exit code 2 says that the input is wrong, which is what a `ValueError` of ours is; 1 that
    something else failed.
    """

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        r"""Register a command; `\b` in its raw docstring keeps the lines below as they are."""
        cmd.help = (cmd.help or "").replace("\\b\n", "\b\n")
        super().add_command(cmd, name)

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401
        """Run a command."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            ours = type(error).__module__.split(".")[0] in _OURS
            if not ours and (not isinstance(error, OSError) or error.filename is None):
                raise
            if ctx.find_root().params.get("verbose"):
                logger.exception("this ended the command:")
            kind = WrongInput if isinstance(error, ValueError) else click.ClickException
            raise kind(str(error)) from error


def path_option(name: str, help_text: str, default: Path | None = None) -> Callable[[F], F]:
    """An option that takes a path."""
    return click.option(
        name,
        type=click.Path(path_type=Path),
        default=default,
        show_default=default is not None,
        help=help_text,
    )


data_option = path_option("--data", "Prepared dataset, made by `cascade data`.", PREPARED)
data_dir_option = path_option("--data-dir", "Bundles, experiments, events and reports.", DATA_DIR)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-v", "--verbose", is_flag=True, help="Say more, and show tracebacks.")
@click.version_option(package_name="cascade-recommender")
def main(verbose: bool) -> None:
    """Train a recommendation cascade, serve it, and measure its revenue per experiment arm.

    `cascade demo` does all of it. Every step is also a command of its own, in this order: data,
    train, evaluate, export, serve, replay, report.
    """
    # Read when torch is loaded. Threads that wait by spinning make training ten times slower as
    # soon as another process wants a core.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )


def settings(**options: Any) -> Any:  # noqa: ANN401
    """Settings of the server: the options that were given, then the environment."""
    from pydantic import ValidationError

    from serving.settings import Settings

    try:
        return Settings(**{name: value for name, value in options.items() if value is not None})
    except ValidationError as error:
        fault = error.errors()[0]
        name = "CASCADE_" + "_".join(str(part) for part in fault["loc"]).upper()
        raise click.UsageError(f"{name} = {fault['input']!r}: {fault['msg']}") from error


def use_all_cores() -> None:
    """Let torch use every core, shared between torchrun's processes; OMP_NUM_THREADS wins."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // processes))
