"""`python -m runner --standin URL --facts FILE --home DIR --ready-file FILE`: run the tasks of one account until SIGTERM.

`--facts` tells of the account and its database. The ready file appears, whole, when PostgreSQL serves and tasks are
taken; standard output is the log of processes, one JSON object a line.
"""

import argparse
import json
import signal
import socket
import time
from pathlib import Path

from walk.children import end

from .home import Home
from .names import Name
from .postgres import Postgres
from .standin import Standin, Unreachable
from .tasks import Job, note, spawn

PAUSE_SECONDS = 0.1
GRACE_SECONDS = 8  # the sandbox gives the runner 30
CODE_SERVER, CODE_SERVER_PORT = "service:code-server", 4000


def main():
    options = read_options()
    ended = []  # the signals that ask for it; they are looked at between two turns, so that no step is cut in two
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: ended.append(number))
    facts = json.loads(options.facts.read_text())
    standin = Standin(options.standin, facts)
    jobs, database = {}, None
    try:
        options.home.mkdir(mode=0o700)
        database = Postgres(options.home / "postgres", free_port(), standin.secret(facts["password"]), options.home / "postgres.log")
        database.start(spawn)
        name = Name()
        home = Home(options.home / "dagster", facts, database.port, name.port)
        logs = options.home / "logs"
        logs.mkdir()
        ready(options.ready_file, {"database_port": database.port, "code_server_port": name.port})
        while not ended:
            turn(standin, jobs, name, lambda task: Job(task, options.pull_seconds, home, standin, logs))
            if database.process.poll() is not None:
                raise SystemExit("PostgreSQL has died")
            time.sleep(PAUSE_SECONDS)
    finally:
        running = [job for job in jobs.values() if job.process]
        end([job.process for job in running], GRACE_SECONDS)
        for job in running:
            note("end", **job.named(), why="the runner ends")
        if database:
            database.stop()


def turn(standin, jobs, name, make):
    try:
        listed = {task["id"]: task for task in standin.tasks()}
        for number, task in listed.items():
            if number not in jobs and task["wanted"]:
                jobs[number] = make(task)
        for number, job in list(jobs.items()):
            if job.move(listed.get(number)):
                del jobs[number]
    except Unreachable as error:
        note("unreachable", error=str(error))
        return
    serving = [job for job in jobs.values() if job.task["group"] == CODE_SERVER and job.serves()]
    name.targets = [(job.task["address"], CODE_SERVER_PORT) for job in reversed(serving)]


def ready(path, facts):
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(facts) + "\n")
    part.replace(path)


def free_port():
    with socket.socket() as attempt:
        attempt.bind(("127.0.0.1", 0))
        return attempt.getsockname()[1]


def read_options():
    parser = argparse.ArgumentParser(prog="runner", description="Run an account's ECS tasks as real processes")
    parser.add_argument("--standin", required=True, help="URL of the AWS stand-in")
    parser.add_argument("--facts", type=Path, required=True, help="JSON: account, region, credentials, place of the database's password, its name, the image's variables")
    parser.add_argument("--home", type=Path, required=True, help="folder to make, for everything that a run leaves")
    parser.add_argument("--ready-file", type=Path, required=True, help="file to write when tasks are taken")
    parser.add_argument("--pull-seconds", type=float, default=1.0, help="how long pulling an image takes")
    return parser.parse_args()


if __name__ == "__main__":
    main()
