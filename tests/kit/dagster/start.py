"""Start a Dagster of the tests': code server, where wanted one whose code is broken, webserver, daemon; end it when
standard input closes.

    start.py FOLDER JOBS CODE_PORT BROKEN_PORT WEB_PORT PREFIX [broken] [daemon]
"""

import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

PR_SET_PDEATHSIG = 1
SETTINGS = """
telemetry: {enabled: false}
run_coordinator:
  module: dagster._core.run_coordinator
  class: QueuedRunCoordinator
  config: {dequeue_interval_seconds: 1}
"""


def start(folder, name, *words):
    def die_with_us():
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

    log = open(folder / f"{name}.log", "ab")
    program = Path(sys.executable).parent / words[0]
    subprocess.Popen(
        [program, *map(str, words[1:])],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=folder,
        env=os.environ | {"DAGSTER_HOME": str(folder / "home"), "PYTHONWARNINGS": "ignore"},
        preexec_fn=die_with_us,
    )


def wait(what, is_there):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            if is_there():
                return
        except OSError:
            pass
        time.sleep(0.05)
    sys.exit(f"not there after a minute: {what}")


def listens(port):
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def location(name, port):
    return {"grpc_server": {"host": "127.0.0.1", "port": port, "location_name": name}}


def main(folder, jobs, code, broken, web, prefix, *more):
    folder = Path(folder)
    (folder / "home").mkdir(parents=True)
    (folder / "home" / "dagster.yaml").write_text(SETTINGS)
    (folder / "broken.py").write_text("raise RuntimeError('no code for Mary Smith')\n")
    workspace = folder / "workspace.json"
    locations = [location("pipelines", int(code))]
    if "broken" in more:
        locations.append(location("broken", int(broken)))
    workspace.write_text(json.dumps({"load_from": locations}))
    serve = ["dagster", "api", "grpc", "-h", "127.0.0.1"]
    # One after the other: the first makes the tables.
    start(folder, "code", *serve, "-p", code, "--python-file", jobs, "--location-name", "pipelines")
    wait("the code server", lambda: listens(int(code)))
    if "broken" in more:
        lazy = ["--lazy-load-user-code"]
        start(folder, "broken", *serve, "-p", broken, "--python-file", "broken.py", "--location-name", "broken", *lazy)
        wait("the broken code server", lambda: listens(int(broken)))
    path = ["--path-prefix", prefix] if prefix else []
    start(folder, "web", "dagster-webserver", "-h", "127.0.0.1", "-p", web, "-w", workspace, *path)
    wait("the webserver", lambda: urllib.request.urlopen(f"http://127.0.0.1:{web}{prefix}/server_info", timeout=5))
    if "daemon" in more:
        start(folder, "daemon", "dagster-daemon", "run", "-w", workspace)
    print("ready", flush=True)


main(*sys.argv[1:])
sys.stdin.read()
os.killpg(0, signal.SIGKILL)
