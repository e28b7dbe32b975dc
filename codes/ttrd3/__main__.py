"""`python -m ttrd3 COMMAND`, also installed as `ttrd3`: finds the command, sets up logging, explains mistakes.

A command is a module under ttrd3.commands with a docstring (its help), `add_arguments(parser)` and `run(args) -> int`.
It is imported only when it is asked for, so that `ttrd3 --help` does not wait for torch.
"""

import argparse
import contextlib
import errno
import importlib
import logging
import os
import re
import select
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from types import FrameType, ModuleType

from ttrd3 import __version__
from ttrd3.errors import UserError, is_out_of_memory

COMMANDS = {
    "prepare": "cut image folders into HR and LR tiles with splits and a manifest",
    "index": "describe a folder of sharp images, of which `reference: retrieved` then takes the most alike",
    "train": "train a model as an option file says; the same command again resumes",
    "val": "validate trained weights: PSNR, SSIM, tables and pictures beside bicubic",
    "evaluate": "measure folders of super-resolved images against the truth, with PSNR, SSIM, LPIPS, FID and more",
    "upscale": "enlarge images and GeoTIFF scenes of any size by four with trained weights",
    "import-released": "make the authors' released checkpoints usable here",
    "export": "write a model as one ONNX graph, which runs without PyTorch",
    "report": "one HTML page to look at validations: slider, loupe, error maps, tables",
    "compare": "validations against the first one on the terminal, tested in pairs",
    "config": "check an option file and print the resolved options",
    "doctor": "versions, devices, free memory and disk, optional weights",
}

# What the disk may refuse at any moment, wherever a library writes: full, over quota, read-only, forbidden, failing
DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}

# What to do where memory ran out, by command
LESS_MEMORY = {
    "prepare": "Lower --workers.",
    "index": "Lower --workers; with --weights, --device cpu.",
    "train": "Lower train.batch_size (and raise train.accumulation by as much), data.train.crop, val.batch_size or "
    "model.transfer.matching_memory, or set train.precision=bfloat16 or train.gradient_checkpointing=true.",
    "val": "Lower val.batch_size or model.transfer.matching_memory.",
    "evaluate": "Measure fewer --metrics at once, or use --device cpu.",
    "upscale": "Lower --tile or --batch.",
    "export": "Lower --tile.",
    "report": "Lower --images.",
}

WORKER_GONE = re.compile(r"DataLoader worker .*(killed|exited)")  # torch's words, raised wherever the program is

logger = logging.getLogger("ttrd3")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 done with findings, 2 a user's mistake, 130 interrupted.

    `upscale` gives 10 + N where N inputs failed and the others are done.

    Args:
        argv: The words after `ttrd3`; None takes them from the command line.

    Raises:
        SystemExit: From argparse, after --help or --version (0) or for words it does not know (2).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    at = next((index for index, word in enumerate(words) if not word.startswith("-")), len(words))
    general = _general_parser().parse_args(words[: at + 1])
    if general.command is None:
        _general_parser().print_help(sys.stderr)
        return 2
    try:
        with _termination_cleans_up():
            return _run(general, words[at + 1 :])
    except (Exception, KeyboardInterrupt) as error:
        explained = _explain(error, general.command)
        if explained is None:
            raise
        code, text = explained
        sys.stderr.write(text)
        return code


def command_module(name: str) -> ModuleType:
    """The module of a command: dashes in its name are underscores there."""
    return importlib.import_module(f"ttrd3.commands.{name.replace('-', '_')}")


def _run(general: argparse.Namespace, words: list[str]) -> int:
    command = command_module(general.command)
    parser = _parser(prog=f"ttrd3 {general.command}", description=command.__doc__)
    command.add_arguments(parser)
    args = parser.parse_intermixed_args(words, namespace=general)
    with _logging(logging.DEBUG if args.verbose else logging.WARNING if args.quiet else logging.INFO):
        code = command.run(args)
    sys.stdout.flush()  # a reader that has gone shows here, not in the interpreter's last moments
    return code


def _explain(error: BaseException, command: str) -> tuple[int, str] | None:
    """Exit code and message for what is no bug in a command; None for a bug, which keeps its traceback."""
    if isinstance(error, KeyboardInterrupt):
        return 130, "\nttrd3: interrupted\n"
    if isinstance(error, UserError):
        return 2, f"ttrd3: error: {error}\n"
    if isinstance(error, OSError) and error.errno in DISK_TROUBLE:
        return 2, (
            f"ttrd3: error: {error.filename or 'a file'}: cannot be read or written ({error.strerror}). "
            "Choose a folder that can be written and has space left.\n"
        )
    if isinstance(error, BrokenPipeError) and _stdout_is_closed():
        return 1, ""  # `ttrd3 ... | head` has read enough
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] != "ttrd3":
        return 2, (
            f"ttrd3: error: the Python package {error.name} is not installed for {sys.executable}. Run "
            "`pip install -r requirements.txt`, or start with train.sh or val.sh, which make an environment.\n"
        )
    if is_out_of_memory(error):
        cause = str(error).partition("\n")[0] or "Python found no more RAM"
        advice = LESS_MEMORY.get(command, "Close other programs, or use a machine with more.")
        return 2, f"ttrd3: error: out of memory: {cause} {advice} `ttrd3 doctor` shows the memory that is free.\n"
    if isinstance(error, RuntimeError) and WORKER_GONE.search(str(error)):
        return 2, (
            "ttrd3: error: a process that loads images was killed, most likely for want of memory. Lower train.workers "
            "or train.batch_size; the same command again goes on from the newest checkpoint.\n"
        )
    return None


def _stdout_is_closed() -> bool:
    """Whether the reader of a piped standard output has gone; if so, what is still to be written goes nowhere."""
    descriptor = 1
    watch = select.poll()
    watch.register(descriptor, 0)  # errors and hang-ups are always reported
    if not watch.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)  # the interpreter flushes once more at its end
    return True


def _general_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:{width}}  {text}" for name, text in COMMANDS.items())
    parser = _parser(
        prog="ttrd3",
        usage="ttrd3 [-h] [--version] [-v | -q] COMMAND ...",
        description="TTRD3: reference-based x4 super-resolution of remote-sensing images (arXiv:2504.13026).",
        epilog=f"commands:\n{listing}\n\n`ttrd3 COMMAND --help` explains one.",
    )
    parser.add_argument("--version", action="version", version=f"ttrd3 {__version__}")
    parser.add_argument("command", metavar="COMMAND", nargs="?", choices=[*COMMANDS], help="one of the commands below")
    parser.set_defaults(verbose=False, quiet=False)
    return parser


def _parser(**texts: str | None) -> argparse.ArgumentParser:
    """A parser with --verbose and --quiet, which may stand before or after the command."""
    parser = argparse.ArgumentParser(**texts, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    volume = parser.add_mutually_exclusive_group()
    keep = argparse.SUPPRESS  # not given after the command: what was given before it stays
    volume.add_argument("-v", "--verbose", action="store_true", default=keep, help="tell more (debug messages)")
    volume.add_argument("-q", "--quiet", action="store_true", default=keep, help="tell warnings and errors only")
    return parser


@contextlib.contextmanager
def _termination_cleans_up() -> Iterator[None]:
    """SIGTERM, which schedulers send, ends a command like Ctrl-C: nothing half-written remains."""
    owner = os.getpid()

    def terminated(number: int, _frame: FrameType | None) -> None:
        if os.getpid() == owner:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)  # a forked helper process, which its pool ends
        os.kill(os.getpid(), number)

    if threading.current_thread() is not threading.main_thread():  # used from a program that has its own handlers
        yield
        return
    former = signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@contextlib.contextmanager
def _logging(level: int) -> Iterator[None]:
    """Show the package's messages on stderr, plain; other libraries keep their own settings."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    # A filter, because progress bars put a handler of their own in this one's place and keep only its filters; and not
    # the logger's level, because a run's log file has everything whatever the terminal shows.
    handler.addFilter(lambda record: record.levelno >= level)
    former = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(former)


if __name__ == "__main__":
    exit_code = main()
    if exit_code == 130:
        # Where the interruption came within exec() of a text, which dataclasses and namedtuples use while modules are
        # imported, Python remembers it although it was handled, and kills itself with SIGINT instead of giving 130.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    sys.exit(exit_code)
