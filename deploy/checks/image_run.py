"""Runs hub and agent in their images' root file systems as ECS does: the root read only, nothing but the data folder
writable, as the image's user and with the image's own variables. An agent joins, is seen online, and a backup is taken.

In namespaces of its own, which images.py makes: no address but loopback, where every name that is looked up is answered
here, so that it shows what the programs ask for. Argument: {image: {root, variables}} as JSON.
"""

import contextlib
import fcntl
import json
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

from checks import sts

TREE = Path(__file__).resolve().parents[2]
USER = 10001
DEADLINE_SECONDS = 60  # tells what hangs, also on a busy machine; it judges no speed


def demand(holds, message):
    if not holds:
        sys.exit(f"images: {message}")


def loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        up_and_running = 0x41
        fcntl.ioctl(asked, 0x8914, struct.pack("16sH14x", b"lo", up_and_running))  # SIOCSIFFLAGS


class Names:
    """Answers each name with 127.0.0.1, and keeps what was asked."""

    def __init__(self):
        self.asked = set()
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 53))
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            query, sender = self.socket.recvfrom(512)
            labels, at = [], 12
            while query[at]:
                labels.append(query[at + 1:at + 1 + query[at]].decode())
                at += 1 + query[at]
            question, wants_address = query[12:at + 5], query[at + 1:at + 3] == b"\0\1"
            self.asked.add(".".join(labels).lower())
            answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x7f\0\0\1" if wants_address else b""
            self.socket.sendto(query[:2] + b"\x85\x80\0\1\0" + bytes([wants_address]) + b"\0\0\0\0" + question + answer, sender)


class Image:
    def __init__(self, name, root, variables):
        self.program = f"sfdata-{name}"
        self.root, self.variables = Path(root), variables
        self.data = self.root / "var/lib" / self.program
        # The engine brings these two; nothing else is added to what is shipped.
        (self.root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
        (self.root / "etc/hosts").write_text("127.0.0.1 localhost\n")
        volume = self.root.parent / "data"
        volume.mkdir(mode=0o700)
        volume.chmod(0o700)
        subprocess.run(["chown", f"{USER}:{USER}", volume], check=True)
        for arguments in (["--make-rprivate", "/"], ["--bind", self.root, self.root], ["-o", "remount,bind,ro", self.root],
                          ["--bind", volume, self.data]):
            subprocess.run(["mount", *arguments], check=True)

    def command(self, arguments):
        environment = [f"{name}={value}" for name, value in self.variables.items()]
        return ["env", "-i", *environment, shutil.which("chroot"), f"--userspec={USER}:{USER}", self.root, f"/usr/bin/{self.program}",
                *arguments]

    def run(self, *arguments, code=0):
        ended = subprocess.run(self.command(arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                               timeout=DEADLINE_SECONDS)
        said = ended.stdout + ended.stderr
        demand(ended.returncode == code, f"{self.program} {' '.join(arguments)} in its image: exit code {ended.returncode}, "
                                         f"not {code}: {said}")
        demand("Read-only file system" not in said, f"{self.program} writes outside of its data folder: {said}")
        return said

    def configure(self, text):
        """As the templates do it: by a variable, so that no file has to be in the image."""
        self.variables[f"{self.program.upper().replace('-', '_')}_TOML"] = text

    @contextlib.contextmanager
    def serving(self, ready):
        """Runs it until it is ready, has it asked as ECS asks, and has it end by SIGTERM."""
        log = self.root.parent / "run.log"
        with log.open("w") as lines:
            running = subprocess.Popen(self.command(["run"]), stdin=subprocess.DEVNULL, stdout=lines, stderr=lines)
        try:
            eventually(lambda: running.poll() is not None or answers(ready), f"{self.program} is not ready at {ready}", log)
            demand(running.poll() is None, f"{self.program} run ended with {running.returncode}; it logged:\n{log.read_text()}")
            self.run("healthcheck")
            yield
            running.send_signal(signal.SIGTERM)
            demand(running.wait(DEADLINE_SECONDS) == 0, f"{self.program} ended with {running.returncode}: {log.read_text()}")
        finally:
            running.kill()
            running.wait()
        demand("Read-only file system" not in log.read_text(), f"{self.program} writes outside of its data folder, see {log}")


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def eventually(holds, message, log):
    end = time.monotonic() + DEADLINE_SECONDS
    while not holds():
        demand(time.monotonic() < end, f"{message} within {DEADLINE_SECONDS} s; it logged:\n{log.read_text()}")
        time.sleep(0.1)


def example(name, *sections):
    """The commented example of a configuration, with these optional sections in use."""
    lines, on = [], False
    for line in (TREE / f"deploy/config/{name}.toml").read_text().splitlines():
        if line.startswith("#: ["):
            on = line.removeprefix("#: ") in sections
        elif not line.strip() or line.startswith("["):
            on = False
        lines.append(line.removeprefix("#: ") if on else line)
    return "\n".join(lines)


def hubctl(folder, *arguments):
    """An operator's own machine: not in an image, and in the same network."""
    done = subprocess.run([TREE / "target/debug/hubctl", "--home", folder / "home", *arguments, "-o", "json"], cwd=folder,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    demand(done.returncode == 0, f"hubctl {' '.join(map(str, arguments))}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout) if done.stdout.strip() else None


def trust(folder, hub, token):
    """Steps 2 and 3 of the README's setup, with one root key to throw away."""
    (folder / "hub-identity.pem").write_text((hub.data / "hub-identity.pem").read_text())
    hubctl(folder, "login", token)
    hubctl(folder, "trust", "init", "--hub", "hub-identity.pem", "--generate", "1", "--threshold", "1")
    key = hubctl(folder, "key", "show")["public_key"]
    hubctl(folder, "trust", "add-operator", "alice", "--key", key, "--role", "admin")
    hubctl(folder, "trust", "sign", "--root-key", "root-1.key")
    hubctl(folder, "trust", "publish")


def versions(*images):
    version = re.search(r'^version = "(.*)"$', (TREE / "Cargo.toml").read_text(), re.MULTILINE)[1]
    for image in images:
        said = image.run("--version")
        demand(said.split() == [image.program, version], f"{image.program} --version says {said!r}")


def main():
    told = json.loads(sys.argv[1])
    loopback_up()
    names = Names()
    hub, agent = (Image(name, told[name]["root"], told[name]["variables"]) for name in ("hub", "agent"))
    # hubctl, which is in no image, looks names up at the same place.
    subprocess.run(["mount", "--bind", hub.root / "etc/resolv.conf", "/etc/resolv.conf"], check=True)
    versions(hub, agent)

    hub.configure(example("hub"))
    hub.run("check-config")
    said = hub.run("init", "--operator", "alice")
    token = re.search(r"^sfjoin_\S+", said, re.MULTILINE)
    demand(token, f"sfdata-hub init printed no token: {said}")

    # Nobody listens at AWS's address: the CA certificates were read, the name was looked up, and the connection was refused.
    agent.variables |= {"AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "example"}
    said = agent.run("discover", "--region", "eu-west-2", code=1)
    demand("sts.eu-west-2.amazonaws.com" in names.asked and "Connection refused" in said,
           f"sfdata-agent looked up {names.asked}, and did not get as far as asking STS: {said}")
    agent.configure(example("agent", "[ops]").replace("[aws]\n", f'[aws]\nendpoint_url = "{sts.serve()}"\n'))
    agent.run("check-config")

    folder = hub.root.parent / "operator"
    folder.mkdir()
    with hub.serving("http://127.0.0.1:9464/readyz"):
        trust(folder, hub, token[0])
        invited = hubctl(folder, "agents", "invite", "camden", "--account", sts.ACCOUNT)
        agent.run("enrol", "--token", invited["token"])
        # Ready is an agent that is connected.
        with agent.serving("http://127.0.0.1:9465/readyz"):
            demand("hub.sfdata.example" in names.asked, f"sfdata-agent looked up {names.asked} and not its hub")
            hub.run("backup", "--out", "/var/lib/sfdata-hub/backup")
            demand((hub.data / "backup").stat().st_size > 0, "sfdata-hub backup wrote nothing")


if __name__ == "__main__":
    main()
