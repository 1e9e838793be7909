"""One task's process: pulled, started, told to end, gone. Every start and end is one line of the runner's log, in JSON.

A process leads a group of its own; what is left of the group is killed before its end is reported, and the kernel kills
the process when the runner is no more. The stand-in is asked before a start, so that nothing runs that it has given up.
"""

import json
import signal
import subprocess
import time

from walk.children import kill_group, prctl, PR_SET_PDEATHSIG


def spawn(command, **options):
    """From the main thread alone: a child dies with the thread that made it."""
    return subprocess.Popen([str(part) for part in command], process_group=0,
                            preexec_fn=prctl and (lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL)), **options)


def note(event, **more):
    print(json.dumps({"at": round(time.time(), 3), "event": event, **more}), flush=True)


class Job:
    def __init__(self, task, pull_seconds, home, standin, logs):
        self.task, self.home, self.standin = task, home, standin
        self.due = time.monotonic() + pull_seconds
        self.process, self.log, self.read, self.told = None, logs / f"{task['id']}.log", 0, None
        self.begun, self.begun_told, self.asked = None, False, False

    def move(self, task):
        """One step, given what the stand-in says of the task now, or None where it knows it no longer. True at the end."""
        wanted = task is not None and task["wanted"]
        if not self.process:
            if not wanted:
                if task and self.asked:  # it may have been granted, or have failed, without either of us having heard
                    self.standin.report(self.task["id"], event="failed", reason="CannotStartContainerError: stopped")
                return True
            return time.monotonic() >= self.due and not self.start()
        if not self.begun_told:
            self.tell_begun()
        self.ship()
        code = self.process.poll()
        if code is None:
            if not wanted:
                self.end()
            return False
        kill_group(self.process)
        self.ship()
        code = 128 - code if code < 0 else code
        self.standin.report(self.task["id"], event="exited", exit_code=code)
        note("end", **self.named(), exit_code=code, seconds=round(time.monotonic() - self.begun, 2))
        return True

    def named(self):
        return {"group": self.task["group"], "task": self.task["id"], "pid": self.process and self.process.pid}

    def start(self):
        """Whether the process runs."""
        self.asked = True
        if not self.standin.report(self.task["id"], event="starting")["granted"]:
            return False
        try:
            command, variables, folder = self.home.command(self.task, self.standin.credentials(self.task["role"]))
            variables |= {name: self.standin.secret(place) for name, place in self.task["secrets"].items()}
            with self.log.open("ab") as log:
                self.process = spawn(command, env=variables, cwd=folder, stdin=subprocess.DEVNULL,
                                     stdout=log, stderr=subprocess.STDOUT)
        except Exception as error:  # whatever keeps it from starting is told as ECS tells it
            note("failed", **self.named(), error=str(error))
            self.standin.report(self.task["id"], event="failed", reason=f"CannotStartContainerError: {error}")
            return False
        self.begun = time.monotonic()
        note("start", **self.named(), address=self.task["address"], command=" ".join(command[:3]))
        self.tell_begun()
        return True

    def tell_begun(self):
        """Told again by the next step where it was not heard."""
        self.standin.report(self.task["id"], event="started")
        self.begun_told = True

    def end(self):
        """SIGTERM, then after the container's stop timeout SIGKILL."""
        if not self.told:
            self.told = time.monotonic()
            note("stop", **self.named())
            self.process.terminate()
        elif time.monotonic() - self.told > self.task["stop_timeout"]:
            kill_group(self.process)

    def ship(self):
        """Whole lines that came since, to the task's log stream."""
        with self.log.open("rb") as log:
            log.seek(self.read)
            came = log.read(1 << 20)
        whole = came[:came.rfind(b"\n") + 1]
        lines = [line for line in whole.decode(errors="replace").splitlines() if line.strip()]
        if lines:
            self.standin.report(self.task["id"], lines=lines)
        self.read += len(whole)

    def serves(self):
        return self.process is not None and self.told is None
