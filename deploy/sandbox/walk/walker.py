"""Runs the commands of the walk and judges what comes of them.

On a walk for a person, commands write to the terminal themselves. In a check they print JSON, which is kept and judged;
exit codes and the stand-in's log of calls are judged on both. Every command and its answer goes to logs/walk.log.
"""

import json
import shlex
import subprocess
import time
from dataclasses import dataclass

from . import ground, talk
from .children import GaveUp, call, environment
from .pipeline import Pipeline

CALL_SECONDS = 180
SFDATA_HOME = ground.STATE / "hubctl"
LOG = ground.LOGS / "walk.log"


class Failed(Exception):
    """A step that did not come out as it has to."""

    def __init__(self, what, expected, came, log=LOG):
        super().__init__(what)
        self.what, self.expected, self.came, self.log = what, expected, came, log


@dataclass
class Answer:
    code: int
    out: str

    @property
    def text(self):
        return self.out.strip()

    @property
    def json(self):
        try:
            return json.loads(self.out)
        except ValueError:
            raise Failed("its output is one JSON document", "JSON", self.out) from None

    def targets(self):
        return {target["agent_id"]: target for target in self.json["targets"]}

    def states(self):
        """Of a command by agent, or of agents."""
        return {entry["agent_id"]: entry["state"] for entry in self.json.get("targets") or self.json["agents"]}


class Walker:
    def __init__(self, estate):
        self.estate, self.check = estate, estate.check
        self.began = time.monotonic()
        self.pipeline = Pipeline(estate)

    def hubctl(self, *arguments, code=0, keep=False, brief=False, quiet=False):
        """Run hubctl. `keep` takes its output for the walk, `brief` does not show it, `quiet` shows nothing at all."""
        reads_json = self.check or quiet
        more = ("-o", "json") if reads_json else ()
        return self.run("hubctl", (*more, *arguments), code, keep, brief, quiet)

    def agent(self, name, *arguments, code=0, keep=False):
        return self.run("sfdata-agent", ("--config", f"{name}/agent.toml", *arguments), code, keep)

    def run(self, program, arguments, code=0, keep=False, brief=False, quiet=False):
        shows = not self.check and not quiet
        if shows:
            talk.command(program, arguments)
        keep = keep or brief or not shows
        errors = None if shows else subprocess.PIPE
        line = shlex.join(talk.shorten(str(argument)) for argument in (program, *arguments))
        begun = time.monotonic()
        try:
            done = call((ground.BIN / program, *arguments), lambda: self.why_not_wait(begun), cwd=ground.STATE,
                        text=True, env=environment(SFDATA_HOME=str(SFDATA_HOME)),
                        stdout=subprocess.PIPE if keep else None, stderr=errors)
        except GaveUp as gave_up:
            self.note(line, f"ended from outside: {gave_up}", gave_up.out, gave_up.err)
            raise Failed(f"`{line}` ends", f"within {CALL_SECONDS} s", gave_up) from None
        out = done.stdout or ""
        self.note(line, f"exit code {done.returncode}, {time.monotonic() - begun:.2f} s", out, done.stderr or "")
        if shows and keep and not brief:
            talk.say("\n".join(talk.shorten(text) for text in out.splitlines()))
        if shows and done.returncode == code != 0:
            talk.say(f"(exit code {code})")
        if done.returncode != code:
            said = f": {done.stderr.strip()}" if done.stderr else ""
            raise Failed(f"exit code of `{line}`", code, f"{done.returncode}{said}")
        return Answer(done.returncode, out)

    def why_not_wait(self, begun):
        if dead := self.estate.dead():
            return f"{dead[0].name} has died"
        return "not in this time" if time.monotonic() - begun > CALL_SECONDS else None

    def note(self, line, end, out, errors):
        with LOG.open("a") as log:
            at = time.monotonic() - self.began
            out = "\n".join(talk.shorten(text) if '"token"' not in text else '  "token": ...'
                            for text in out.splitlines())
            log.write(f"[{at:7.2f}] $ {line}\n{out}{out and chr(10)}{errors}[{end}]\n\n")

    def say(self, text):
        """Tell a person what the walk itself does between commands."""
        if not self.check:
            talk.say(f"\n{talk.style('36', text)}")

    def expect(self, what, came, expected, log=LOG):
        """In a check: what came is what was expected. `came` may be a function, which is then asked once."""
        if self.check:
            came = came() if callable(came) else came
            if came != expected:
                raise Failed(what, expected, came, log)

    def until(self, what, condition, seconds=180, log=LOG, pause=0.1):
        """Wait for something, and give it. The time is for a busy machine: it tells what hangs, and judges nothing."""
        deadline = time.monotonic() + seconds
        while not (found := condition()):
            if dead := self.estate.dead():
                raise Failed(what, f"within {seconds:.0f} s", f"{dead[0].name} has died", dead[0].log)
            if time.monotonic() > deadline:
                raise Failed(what, f"within {seconds:.0f} s", "not in this time", log)
            time.sleep(pause)
        return found

    def agents(self):
        """The hub's list of agents, unseen, by name."""
        answer = self.hubctl("agents", "list", quiet=True)
        return {agent["agent_id"]: agent for agent in answer.json["agents"]}

    def until_state(self, name, state, seconds=180):
        log = self.estate.agents[name].log
        return self.until(f"{name} is {state}", lambda: self.agents()[name]["state"] == state, seconds, log)

    def calls(self, what, name, action, after, expected, pick=lambda parameters: parameters):
        """What AWS was asked for, by the stand-in's own log: neither hub nor agent is believed here."""
        came = [pick(call["params"]) for call in self.estate.calls(name, action, after)]
        if came != expected:
            raise Failed(f"{what}: {action} in the account of {name}, by the stand-in's log", expected, came,
                         self.estate.agents[name].log)

    def reading(self, what, *arguments, text=None):
        """Ask the virtual environment's libraries to read something."""
        done = subprocess.run([ground.PYTHON, "-m", "walk.reading", what, *map(str, arguments)], input=text, text=True,
                              capture_output=True, env=environment(PYTHONPATH=str(ground.HERE)))
        if done.returncode != 0:
            raise Failed(f"{what} can be read", "no error", done.stderr.strip()[-600:])
        return json.loads(done.stdout)
