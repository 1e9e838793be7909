"""Start the stand-in: `PYTHONPATH=deploy/sandbox python -m standin --port 0 --ready-file PATH`.

The ready file appears, whole, once connections are accepted; it holds {"port": ..., "url": ...}.
SIGTERM ends the process at once. With --until-stdin-closes it also ends with whoever started it, however that died.
"""

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from . import behaviour, cloudformation, control, ecr, ecs, logs, rds, s3


class Handler(MotoRequestHandler):
    disable_nagle_algorithm = True  # head and body are sent apart; together with delayed ACKs that costs 40 ms

    def log_request(self, *_):
        pass


def main():
    options = read_options()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # nothing to save, and tearing down takes 0.5 s
    ecs.install(behaviour.Timing(options.task_start_seconds, options.task_stop_seconds, options.run_task_seconds))
    ecr.install()
    logs.install()
    rds.install(options.db_transition_seconds)
    s3.install()
    gate = control.Gate(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", options.port, gate, threaded=True, request_handler=Handler)
    url = f"http://127.0.0.1:{server.server_port}"
    gate.url = url
    cloudformation.install(url)
    if options.until_stdin_closes:
        threading.Thread(target=end_with_stdin, daemon=True).start()
    ready = json.dumps({"port": server.server_port, "url": url})
    print(ready, flush=True)
    if options.ready_file:
        part = options.ready_file.with_name(options.ready_file.name + ".part")
        part.write_text(ready + "\n")
        part.replace(options.ready_file)
    server.serve_forever()


def read_options():
    parser = argparse.ArgumentParser(prog="standin", description="Run the AWS stand-in on 127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one (default)")
    parser.add_argument("--ready-file", type=Path, help="file to write port and URL to, as JSON")
    parser.add_argument("--task-start-seconds", type=float, default=0.4, help="ECS task: created to RUNNING")
    parser.add_argument("--task-stop-seconds", type=float, default=0.4, help="ECS task: told to stop to STOPPED")
    parser.add_argument("--run-task-seconds", type=float, default=2.0, help="how long a task of RunTask works")
    parser.add_argument("--db-transition-seconds", type=float, default=0.5, help="Aurora: starting and stopping")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when standard input closes")
    return parser.parse_args()


def end_with_stdin():
    while sys.stdin.buffer.read(4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
