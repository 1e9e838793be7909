"""Runs hub or agent in its image's root file system as ECS does: the root read only, nothing but its data folder writable,
as the image's user and with the image's own variables. In namespaces of its own, which images.py makes: no address but
loopback, where every name that is looked up is answered here, so that it shows what the programs ask for.

Arguments: agent|hub, the root's folder, the image's variables as JSON.
"""

import fcntl
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
USER = 10001
DEADLINE_SECONDS = 30


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

    def command(self, arguments, variables):
        environment = [f"{name}={value}" for name, value in (self.variables | variables).items()]
        return ["env", "-i", *environment, "chroot", f"--userspec={USER}:{USER}", self.root, f"/usr/bin/{self.program}",
                *arguments]

    def run(self, *arguments, variables={}, code=0):
        ended = subprocess.run(self.command(arguments, variables), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                               timeout=DEADLINE_SECONDS)
        said = ended.stdout + ended.stderr
        demand(ended.returncode == code, f"{self.program} {' '.join(arguments)} in its image: exit code {ended.returncode}, "
                                         f"not {code}: {said}")
        demand("Read-only file system" not in said, f"{self.program} writes outside of its data folder: {said}")
        return said

    def place(self, name, text):
        """A file in the data folder: the only place where a test can put one."""
        (self.data / name).write_text(text)
        return f"/var/lib/{self.program}/{name}"

    def serve(self, *arguments, health, then):
        """Starts it, waits for its health, does `then`, and has it end by SIGTERM; returns what it logged."""
        log = self.root.parent / "run.log"
        with log.open("w") as lines:
            running = subprocess.Popen(self.command([*arguments, "run"], {}), stdin=subprocess.DEVNULL, stdout=lines, stderr=lines)
        try:
            eventually(lambda: running.poll() is None and answers(health),
                       f"{self.program} run does not answer at {health}", log)
            then(log)
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


def agent(image, names):
    credentials = image.place("credentials", "[default]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = example\n")
    settings = example("agent", "[join]", "[ops]").replace("[aws]\n", f'[aws]\ncredentials_file = "{credentials}"\n')
    config = image.place("agent.toml", settings)
    image.run("check-config", "--config", config)
    # Nobody listens there: the certificates were read, the name was looked up, and the connection was refused.
    said = image.run("discover", "--config", config, code=1)
    demand("ecs.eu-west-2.amazonaws.com" in names.asked, f"sfdata-agent looked up {names.asked} and not ECS: {said}")
    image.serve("--config", config, health="http://127.0.0.1:9465/healthz", then=lambda log: eventually(
        lambda: "hub.example.org" in names.asked, f"sfdata-agent looked up {names.asked} and not its hub", log))


def hub(image, _names):
    config = image.place("hub.toml", example("hub"))
    image.run("check-config", "--config", config)
    said = image.run("init", "--config", config, "--operator", "alice")
    demand(re.search(r"^sfjoin_", said, re.MULTILINE), f"sfdata-hub init printed no token: {said}")

    def back_up(log):
        image.run("backup", "--config", config, "--out", "/var/lib/sfdata-hub/backup")
        demand((image.data / "backup").stat().st_size > 0, "sfdata-hub backup wrote nothing")

    image.serve("--config", config, health="http://127.0.0.1:9464/readyz", then=back_up)


def main():
    name, root, variables = sys.argv[1:]
    loopback_up()
    names = Names()
    image = Image(name, root, json.loads(variables))
    version = re.search(r'^version = "(.*)"$', (TREE / "Cargo.toml").read_text(), re.MULTILINE)[1]
    said = image.run("--version")
    demand(said.split() == [image.program, version], f"{image.program} --version says {said!r}")
    {"agent": agent, "hub": hub}[name](image, names)


if __name__ == "__main__":
    main()
