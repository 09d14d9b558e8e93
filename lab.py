"""The lab's one command: sets itself up in .venv on the first run, then does what it is told.

python3 lab.py demo         Everything once, with a crash in the middle and a proof at the end.
python3 lab.py run          Run a notebook, or all of them, without a browser.
python3 lab.py kafka        Start, stop or look at the local Kafka.
python3 lab.py produce      Send the parts of houses.
python3 lab.py consume      Join parts to houses until stopped.
python3 lab.py storno       Cancel a house, or one part of it.
python3 lab.py storno-loop  Cancel a random recent house every so many seconds.
python3 lab.py status       Say how things stand, in plain words.
python3 lab.py show         Show houses as a table, the pending ones, or one house's story.
python3 lab.py peek         Print raw messages of a topic.
python3 lab.py stop         Stop this project's producers and consumers.
python3 lab.py reset        Start anew: topics, output files, checkpoint.
python3 lab.py verify       Prove that every message has exactly one outcome.
python3 lab.py compact      Write houses_live.jsonl, without the cancelled houses.
python3 lab.py hello        First steps: send and hear a few hellos.
python3 lab.py naive        A join that loses and doubles houses when it is killed, to compare with.

python3 lab.py lab          The notebooks in JupyterLab, on this machine only.
python3 lab.py test         The tests; --all adds the slow ones and the notebooks, --system those that need root.
python3 lab.py bench        The measurements.
python3 lab.py crashtest    The crash campaign.
python3 lab.py soak         The long run: millions of messages.

Each of the first list has a --help of its own: python3 lab.py produce --help. Before them may stand --config PATH, the
configuration of an experiment: python3 lab.py --config output/runs/NAME/config.yaml status
"""

# Only what Python 3.6 can read: an older Python gets a sentence, not a SyntaxError.
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, Iterator  # noqa: UP035 - Python 3.6 reads this file

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
PYTHON = BIN / ("python.exe" if os.name == "nt" else "python")
STAMP = VENV / "installed.txt"
INTERRUPTED = 130
OLDEST = (3, 11)
LAB_HELP = """\
python3 lab.py lab [OPTIONS]  The notebooks in JupyterLab, on 127.0.0.1 with a token; Ctrl-C twice ends it.

  python3 lab.py lab --no-browser  Only print the address.
  python3 lab.py lab --port=9999   Another port.

All options are JupyterLab's own; this is its help:
"""
KERNEL_CONFIG = "houses/lab/headless/ipython_kernel_config.py"
TWO_AT_A_TIME = ["-n", "2", "--dist", "worksteal"]  # half of the tests' time is waiting; `test -n 0` for one by one


def main(words: "list[str]") -> int:
    """Do what the command line says; the exit code is that of the program that does it."""
    if sys.version_info < OLDEST:
        sys.exit(
            f"lab.py: needs Python {OLDEST[0]}.{OLDEST[1]} or newer, this is {sys.version.split()[0]}: install one "
            "(https://www.python.org/downloads) and run lab.py with it, for example: python3.13 lab.py demo"
        )
    if not words or words[0] in ("-h", "--help"):
        print((__doc__ or "").strip())
        return 0
    try:
        set_up()
        return run(*command(words[0], words[1:]))
    except KeyboardInterrupt:
        return INTERRUPTED


def set_up() -> None:
    """Make .venv hold what requirements.txt says. The stamp, written last, tells what a complete .venv was made from."""
    if installed() == fingerprint():
        return
    with alone():
        if installed() == fingerprint():  # by the one that was waited for
            return
        if installed()[:1] == fingerprint()[:1]:
            STAMP.unlink()
        else:  # never completed, moved to another folder, or of a Python that is gone
            make_venv()
        install()
        mend_kernels()
        STAMP.write_text("\n".join(fingerprint()), encoding="utf-8")


@contextmanager
def alone() -> "Iterator[None]":
    """Wait for another lab.py that is setting up: two at once would spoil each other's .venv."""
    with (ROOT / ".venv.lock").open("wb") as file:  # not inside .venv, which is emptied; a lock ends with its process
        if not lock(file):
            print("Waiting for another lab.py, which is setting up .venv", flush=True)
            while not lock(file):
                time.sleep(0.2)
        yield


def lock(file: "BinaryIO") -> bool:
    """Lock the file for this process if nobody else has; whether it did."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def installed() -> "list[str]":
    """What .venv was made from; empty when it is not complete."""
    return STAMP.read_text(encoding="utf-8").splitlines() if STAMP.exists() else []


def fingerprint() -> "list[str]":
    """Where .venv is and what its Python really is; a hash of what is to be installed."""
    content = b"".join((ROOT / name).read_bytes() for name in ("requirements.txt", "pyproject.toml", KERNEL_CONFIG))
    return [f"{VENV} {PYTHON.resolve()}", hashlib.sha256(content).hexdigest()]


def make_venv() -> None:
    """Make .venv anew; where the system's Python cannot, say which package it lacks."""
    for module in ("venv", "ensurepip"):
        if find_spec(module) is None:
            sys.exit(
                f"lab.py: this Python has no module {module}, so it cannot make .venv. "
                f"On Debian and Ubuntu: sudo apt install python3.{sys.version_info[1]}-venv"
            )
    import venv

    try:
        venv.create(VENV, clear=True, with_pip=True, symlinks=os.name != "nt")
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"lab.py: cannot make {VENV}: {error}")


def install() -> None:
    """Install requirements.txt, with one line of progress on a terminal; all of pip's lines only when it failed."""
    print("Installing the packages of requirements.txt into .venv (a minute or two the first time)", flush=True)
    pip = [str(PYTHON), "-m", "pip", "install", "--disable-pip-version-check", "-r", "requirements.txt"]
    lines = []
    with subprocess.Popen(pip, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        for line in process.stdout or ():
            lines.append(line.decode("utf-8", "replace"))
            if sys.stdout.isatty() and line.startswith((b"Collecting ", b"Installing ")):
                print("\r  " + lines[-1].strip()[:70].ljust(70), end="", flush=True)
    if process.returncode:
        print("\n" + "".join(lines[-20:]))
        sys.exit("lab.py: the installation failed: see above. Is there a network? The same command tries again.")
    print("\r  done".ljust(73), flush=True)


def command(word: str, rest: "list[str]") -> "tuple[list[str], Path]":
    """What .venv's Python is to run for a word of the command line, and in which folder."""
    if word == "test":
        notebooks = ["--nbmake", "tests", "notebooks"] if "--all" in rest else []
        return ["-m", "pytest", *TWO_AT_A_TIME, *notebooks, *rest], ROOT
    if word == "lab":
        if {"-h", "--help"} & {*rest}:
            print(LAB_HELP, flush=True)
        ask_for_no_news()
        options = ["--ServerApp.ip=127.0.0.1", "--LabApp.default_url=/lab/tree/notebooks/00_contents.ipynb"]
        options.append("--FileContentsManager.pre_save_hook=houses.lab.headless.notebooks.before_save")
        if hasattr(os, "geteuid") and os.geteuid() == 0:  # as in most containers
            options.append("--allow-root")
        return ["-m", "jupyterlab", *options, *rest], ROOT
    if word in ("bench", "crashtest", "soak"):
        return ["-P", "-m", f"campaigns.{word}", *rest], Path.cwd()
    return ["-P", "-m", "houses", word, *rest], Path.cwd()  # -P: not a folder `houses` that happens to be there


def ask_for_no_news() -> None:
    """Otherwise JupyterLab asks for leave to fetch news, in a box over the notebook, and looks for updates."""
    settings = VENV / "share" / "jupyter" / "lab" / "settings"
    settings.mkdir(parents=True, exist_ok=True)
    asked = {"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": False}}
    # <https://jupyterlab.readthedocs.io/en/stable/user/directories.html#overrides-json>
    (settings / "overrides.json").write_text(json.dumps(asked), encoding="utf-8")


def mend_kernels() -> None:
    """Otherwise a kernel leaves a question without an answer now and then: see the file itself."""
    folder = VENV / "etc" / "ipython"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / KERNEL_CONFIG, folder)


def run(arguments: "list[str]", folder: Path) -> int:
    """Hand over to .venv's Python; the programs of .venv are the first that it finds in turn."""
    path = os.pathsep.join([str(BIN), os.environ.get("PATH", os.defpath)])
    environment = dict(os.environ, PATH=path, VIRTUAL_ENV=str(VENV))
    if any(word.startswith("campaigns.") for word in arguments):  # they share the helpers of the tests
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT / "tests"), os.environ.get("PYTHONPATH"))))
    os.chdir(folder)
    if os.name != "nt":
        sys.stdout.flush()
        os.execve(PYTHON, [str(PYTHON), *arguments], environment)
    process = subprocess.Popen([str(PYTHON), *arguments], env=environment)
    while True:  # exec on Windows does not wait; Ctrl-C reaches both programs, and the other one decides what it means
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
