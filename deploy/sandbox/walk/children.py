"""Processes that the sandbox starts, and their end.

Each child leads a process group of its own and is ended by its id: SIGTERM first, SIGKILL to the whole group when it
takes too long. Where the system can do it (Linux), a child also ends when the sandbox itself is killed.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

GRACE_SECONDS = 30  # the hub drains for up to 25
PR_SET_PDEATHSIG = 1
prctl = getattr(ctypes.CDLL(None), "prctl", None) if sys.platform == "linux" else None


class Problem(Exception):
    """Something that the person in front of the sandbox has to know, in words for them."""


def environment(**more):
    """The caller's, without what would turn the product away from the sandbox."""
    strange = ("AWS_", "SFDATA_", "MOTO_", "PYTHON")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
    return {**kept, "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1", **more}


def spawn(arguments, **options):
    return subprocess.Popen(
        [str(argument) for argument in arguments], process_group=0,
        preexec_fn=prctl and (lambda: prctl(PR_SET_PDEATHSIG, signal.SIGTERM)), **options)


def end(processes, grace=GRACE_SECONDS):
    """End processes side by side; those that had to be killed are given back."""
    for process in processes:
        if process.stdin:
            process.stdin.close()
        if process.poll() is None:
            process.terminate()
    deadline = time.monotonic() + grace
    killed = []
    for process in processes:
        try:
            process.wait(max(0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            killed.append(process)
        kill_group(process)
        process.wait()
    return killed


def kill_group(process):
    """Whatever is left of a child's group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


class GaveUp(Exception):
    """A program was ended before its end, with what it said until then."""

    def __init__(self, why, out, err):
        super().__init__(why)
        self.out, self.err = out or "", err or ""


def call(arguments, give_up=None, **options):
    """Run a program to its end; it does not outlive this call, however this call ends.

    `give_up` is asked twice a second for a reason not to wait any longer."""
    process = spawn(arguments, stdin=subprocess.DEVNULL, **options)
    try:
        while True:
            try:
                out, err = process.communicate(timeout=0.5 if give_up else None)
                return subprocess.CompletedProcess(arguments, process.returncode, out, err)
            except subprocess.TimeoutExpired:
                if why := give_up():
                    end([process], grace=5)
                    raise GaveUp(why, *process.communicate()) from None
    finally:
        if process.poll() is None:
            end([process], grace=5)


class Server:
    """A server with its log. `program` is its whole command line; the log goes on when it is started again."""

    def __init__(self, name, program, log, *, feeds=False, keep=(), **options):
        self.name, self.program, self.log, self.options = name, program, Path(log), options
        self.stdin = subprocess.PIPE if feeds else subprocess.DEVNULL
        self.keep, self.process = keep, None

    def start(self):
        with self.log.open("ab") as log:
            self.process = spawn(
                self.program, stdin=self.stdin, stdout=log, stderr=log, pass_fds=self.keep, **self.options)

    def stop(self):
        if self.process and end([self.process]):
            raise Problem(f"{self.name} did not end within {GRACE_SECONDS} s after SIGTERM and was killed; "
                          f"its log: {self.log}")

    def has_died(self):
        return self.process is not None and self.process.poll() not in (None, 0)

    def wait_until(self, is_ready, seconds=60):
        """Wait until it serves; say what its log says when it does not."""
        deadline = time.monotonic() + seconds
        while not is_ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Problem(f"{self.name} did not start; its log says:\n{tail(self.log)}\n(all of it: {self.log})")
            time.sleep(0.02)


def tail(path, lines=20):
    try:
        text = Path(path).read_text(errors="replace")
    except OSError as error:
        return f"  ({error})"
    return "\n".join("  " + line for line in text.splitlines()[-lines:]) or "  (empty)"
