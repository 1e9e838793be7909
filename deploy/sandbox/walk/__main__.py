"""`deploy/sandbox/run`: prepare, start everything, walk, stay up or end."""

import argparse
import random
import shlex
import signal
import sys
import time

from . import cycles, ground, steps, talk, wakes
from .children import Problem, kill_group, tail
from .estate import Estate
from .walker import SFDATA_HOME, Failed, Walker

DESCRIPTION = """
Start an AWS stand-in, load the templates into it, start a hub, the agents of three local authorities and one's real Dagster on this machine,
walk through the main job of the product, and stay up until Ctrl-C. Everything lies in deploy/sandbox/.state and is made anew each time.
"""


class Stopped(Exception):
    """Asked to end, by a signal."""


def main():
    options = read_options()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        lock = ground.take()
        ground.make_venv()
        return 0 if options.venv else run(lock, options)
    except Problem as problem:
        talk.complain(str(problem))
        return 1
    except Stopped as stopped:
        talk.say("\nEnded.")
        return 128 + stopped.args[0]


def read_options():
    parser = argparse.ArgumentParser(prog="deploy/sandbox/run", description=DESCRIPTION)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--check", action="store_true",
                       help="walk without a person: judge each step, end everything, exit with 0 or 1")
    which.add_argument("--venv", action="store_true", help="only make the virtual environment of the stand-in")
    which.add_argument("--cycles", type=int, metavar="N",
                       help="let northshire sleep and wake so often while files arrive, judge that, end everything")
    which.add_argument("--wakes", type=int, metavar="N",
                       help="measure N times how long a file waits for its run beside a start by hand, end everything")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="of --cycles: when files arrive")
    return parser.parse_args()


def stop(number, _):
    raise Stopped(number)


def run(lock, options):
    ground.build()
    estate, check = Estate(lock, options.check), options.check
    try:
        begun = time.monotonic()
        talk.say("Starting the AWS stand-in")
        estate.start_standin()
        passed = walk(Walker(estate), options)
        if passed and options.cycles:
            talk.done(f"Nothing was lost in {options.cycles} cycles: {time.monotonic() - begun:.0f} s")
        elif passed and options.wakes:
            talk.done(f"{options.wakes} pairs of wakes: {time.monotonic() - begun:.0f} s")
        elif passed and check:
            talk.done(f"The walk is right: {len(steps.STEPS)} steps in {time.monotonic() - begun:.0f} s")
        elif passed:
            stay(estate)
    finally:
        killed = end(estate)
    return 0 if passed and not killed else 1


def walk(walker, options):
    try:
        if options.cycles:
            cycles.take(walker, options.cycles, options.seed)
        elif options.wakes:
            wakes.take(walker, options.wakes)
        else:
            steps.take(walker)
        return True
    except Failed as failed:
        talk.complain(f"\n{walker.step}: FAILED\n  what      {failed.what}\n  expected  {failed.expected}\n"
                      f"  came      {failed.came}\n\nRead {failed.log}; its last lines:\n{tail(failed.log)}")
    except Problem as problem:
        talk.complain(f"\n{walker.step}: FAILED\n{problem}")
    for server in walker.estate.dead():
        talk.complain(f"\n{server.name} has died. Read {server.log}; its last lines:\n{tail(server.log)}")
    return False


def stay(estate):
    """Until a signal comes, or a server dies."""
    path, home = shlex.quote(str(ground.BIN)), shlex.quote(str(SFDATA_HOME))
    talk.title("The sandbox is up")
    talk.say(f"""In another terminal:

  export PATH={path}:"$PATH" SFDATA_HOME={home}
  hubctl agents list --watch
  hubctl ecs restart webserver --agent northshire --reason 'to see it happen'
  hubctl --profile bob agents list
  hubctl --help

Hub       {estate.ops}/readyz and {estate.ops}/metrics
AWS       {estate.url} (the stand-in; GET /standin/calls is its log)
Logs      {ground.LOGS}

Ctrl-C ends everything.""")
    try:
        while not (dead := estate.dead()):
            time.sleep(0.5)
    except Stopped:
        talk.say()
        return
    raise Problem(f"{dead[0].name} has died; its log says:\n{tail(dead[0].log)}\n(all of it: {dead[0].log})")


def end(estate):
    """End all servers; a second signal does it at once."""
    def hurry(*_):
        for server in estate.servers():
            if server.process:
                kill_group(server.process)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, hurry)
    talk.say("Ending hub, agents, northshire's tasks and stand-in")
    killed = estate.stop()
    for server in killed:
        talk.complain(f"{server.name} had to be killed; its log: {server.log}")
    return killed


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    sys.exit(main())
