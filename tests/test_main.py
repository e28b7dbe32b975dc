import importlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from helpers import listen_to_ctrl_c

from ttrd3 import __version__
from ttrd3.__main__ import COMMANDS, LESS_MEMORY, command_module, main
from ttrd3.errors import DataError

CODES = Path(__file__).resolve().parents[1] / "codes"


def python(code: str, **kwargs) -> subprocess.Popen:
    """A fresh interpreter in which `main` is imported."""
    return subprocess.Popen(
        [sys.executable, "-c", "import sys\nfrom ttrd3.__main__ import main\n" + code],
        env=os.environ | {"PYTHONPATH": str(CODES)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=listen_to_ctrl_c,
        **kwargs,
    )


@pytest.fixture
def command(monkeypatch):
    """Let `ttrd3 doctor WORD ...`, or another command, run a function of the parsed arguments."""

    def install(run, name: str = "doctor") -> None:
        name = f"ttrd3.commands.{name}"
        module = ModuleType(name, "What the command does.\n\nExamples:\n  ttrd3 doctor one")
        module.add_arguments = lambda parser: parser.add_argument("words", nargs="*", help="any words")
        module.run = run
        monkeypatch.setitem(sys.modules, name, module)

    return install


def raising(error: BaseException):
    def run(args):
        raise error

    return run


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_exists_and_explains_itself(name, capsys):
    module = command_module(name)
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: ttrd3 {name}")
    assert module.__doc__.strip() in text
    assert re.search(rf"^ *ttrd3 {name} \S|^ *ttrd3 {name}$", text, re.MULTILINE), "the help shows no example"
    assert "--verbose" in text


def test_help_names_every_command_and_imports_neither_torch_nor_pydantic():
    process = python(
        "try:\n    main(['--help'])\n"
        "except SystemExit as end:\n"
        "    print(end.code, [name for name in ('torch', 'pydantic', 'numpy') if name in sys.modules])\n"
    )
    text, _ = process.communicate(timeout=60)
    assert text.endswith("0 []\n")
    assert all(f"\n  {name} " in text and help_text in text for name, help_text in COMMANDS.items())


def test_without_a_command_the_help_goes_to_stderr_and_the_code_is_2(capsys):
    assert main([]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "doctor" in output.err


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"ttrd3 {__version__}\n"


def test_an_unknown_command_is_answered_with_the_known_ones(capsys):
    with pytest.raises(SystemExit) as end:
        main(["trian"])
    assert end.value.code == 2
    message = capsys.readouterr().err
    assert "trian" in message
    assert "train" in message.replace("trian", "")


def test_returns_the_exit_code_of_the_command(command):
    command(lambda args: 7)
    assert main(["doctor"]) == 7


def test_flags_may_stand_between_the_words_of_a_command(command):
    seen = []
    command(lambda args: seen.append(args) or 0)
    assert main(["doctor", "options.yml", "--verbose", "train.steps=3"]) == 0
    assert seen[0].words == ["options.yml", "train.steps=3"]
    assert seen[0].command == "doctor"


def test_an_unknown_flag_of_a_command_is_an_error(command, capsys):
    command(lambda args: 0)
    with pytest.raises(SystemExit) as end:
        main(["doctor", "--verb"])
    assert end.value.code == 2
    assert "--verb" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["doctor"], "info\nwarning\n"),
        (["-v", "doctor"], "debug\ninfo\nwarning\n"),
        (["doctor", "--verbose"], "debug\ninfo\nwarning\n"),
        (["--quiet", "doctor"], "warning\n"),
        (["doctor", "-q"], "warning\n"),
    ],
)
def test_the_volume_of_messages(command, capsys, words, shown):
    def run(args):
        log = logging.getLogger("ttrd3.some.module")
        log.debug("debug")
        log.info("%s", "info")
        log.warning("warning")
        logging.getLogger("another.library").info("not ours")
        return 0

    command(run)
    for _ in range(2):  # a second run in the same process says nothing twice
        assert main(words) == 0
        assert capsys.readouterr() == ("", shown)


def test_a_users_mistake_is_one_message_and_code_2(command, capsys):
    command(raising(DataError("tiles/a.png: truncated")))
    assert main(["doctor"]) == 2
    assert capsys.readouterr() == ("", "ttrd3: error: tiles/a.png: truncated\n")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has ..."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("train", "Lower train.batch_size (and raise"),
        ("val", "Lower val.batch_size or"),
        ("prepare", "Lower --workers. `"),
        ("doctor", "Close other programs"),
    ],
)
def test_running_out_of_memory_says_what_to_lower(command, capsys, error, name, advice):
    command(raising(error), name)
    assert main([name]) == 2
    message = capsys.readouterr().err
    assert message.startswith("ttrd3: error: out of memory: ")
    assert message.count("\n") == 1
    assert advice in message


@pytest.mark.parametrize("name", LESS_MEMORY)
def test_what_to_lower_is_an_option_of_the_command(name, capsys):
    """Flags are in its help, options of training and validation in the option files."""
    with pytest.raises(SystemExit):
        main([name, "--help"])
    shown = capsys.readouterr().out
    schema = json.loads((CODES.parent / "options/schema.json").read_text())
    advised = re.findall(r"--[a-z]+|[a-z]+(?:\.[a-z_]+)+", LESS_MEMORY[name])
    assert advised
    for word in advised:
        assert word in shown if word.startswith("--") else word.rpartition(".")[2] in str(schema)


def test_torchs_own_out_of_memory_error_is_recognised(command, capsys):
    torch = pytest.importorskip("torch")
    command(lambda args: torch.empty(2**60, dtype=torch.uint8).sum())
    assert main(["doctor"]) == 2
    assert "out of memory" in capsys.readouterr().err


def test_a_missing_package_says_how_to_install_it(command, capsys):
    command(lambda args: importlib.import_module("no_such_package.module"))
    assert main(["doctor"]) == 2
    assert "no_such_package is not installed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "bug",
    [RuntimeError("shapes differ"), KeyError("x"), ModuleNotFoundError("gone", name="ttrd3.gone"), BrokenPipeError()],
)
def test_a_bug_keeps_its_traceback(command, bug):
    command(raising(bug))
    with pytest.raises(type(bug)) as caught:
        main(["doctor"])
    assert caught.value is bug


FAKE = """
from types import ModuleType
module = sys.modules["ttrd3.commands.doctor"] = ModuleType("doctor")
module.add_arguments = lambda parser: None
module.run = run
sys.exit(main(["doctor"]))
"""


def test_a_reader_that_has_gone_is_no_error():
    process = python(
        "def run(args):\n    sys.stdin.readline()\n    print('word ' * 1000)\n    return 0\n" + FAKE, stdin=-1
    )
    process.stdout.close()
    process.stdin.write("\n")
    process.stdin.close()
    assert process.wait(timeout=60) == 1
    assert process.stderr.read() == ""


def test_ctrl_c_is_one_line_and_code_130():
    code = "import time\ndef run(args):\n    print('ready', flush=True)\n    time.sleep(60)\n" + FAKE
    process = python(code)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert process.stderr.read() == "\nttrd3: interrupted\n"


def test_ctrl_c_within_a_text_that_is_executed_is_code_130_too(tmp_path):
    # Python would otherwise kill itself with SIGINT after all: dataclasses and namedtuples execute texts
    (tmp_path / "yaml.py").write_text("exec('raise KeyboardInterrupt')")
    process = subprocess.run(
        [sys.executable, "-m", "ttrd3", "config", "any.yml"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(CODES)])},
        capture_output=True,
        text=True,
    )
    assert (process.returncode, process.stderr) == (130, "\nttrd3: interrupted\n")
