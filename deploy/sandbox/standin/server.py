"""The stand-in's server: moto with what this package puts in its place, behind the gate.

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

from moto import backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server

from . import behaviour, cloudformation, control, ecr, ecs, logs, rds, s3


class Handler(MotoRequestHandler):
    disable_nagle_algorithm = True  # head and body are sent apart; together with delayed ACKs that costs 40 ms

    def log_request(self, *_):
        pass


def prepare():
    """What is alike for every stand-in, and takes its time: the application for the gate."""
    for part in (ecs, ecr, logs, rds, s3, cloudformation):
        part.install()
    modules = tuple(backends.list_of_moto_modules())
    backends.list_of_moto_modules = lambda: modules  # moto reads its folder for each request
    return DomainDispatcherApplication(create_backend_app)


def serve(aws, arguments):
    options = read_options(arguments)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # nothing to save, and tearing down takes 0.5 s
    behaviour.TIMING.__init__(options.task_start_seconds, options.task_stop_seconds, options.run_task_seconds,
                              options.db_transition_seconds)
    gate = control.Gate(aws)
    server = make_server("127.0.0.1", options.port, gate, threaded=True, request_handler=Handler)
    url = gate.url = cloudformation.Api.url = f"http://127.0.0.1:{server.server_port}"
    if options.until_stdin_closes:
        threading.Thread(target=end_with_stdin, daemon=True).start()
    ready = json.dumps({"port": server.server_port, "url": url})
    print(ready, flush=True)
    if options.ready_file:
        part = options.ready_file.with_name(options.ready_file.name + ".part")
        part.write_text(ready + "\n")
        part.replace(options.ready_file)
    server.serve_forever()


def read_options(arguments):
    parser = argparse.ArgumentParser(prog="standin", description="Run the AWS stand-in on 127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; 0 takes a free one (default)")
    parser.add_argument("--ready-file", type=Path, help="file to write port and URL to, as JSON")
    parser.add_argument("--task-start-seconds", type=float, default=0.4, help="ECS task: created to RUNNING")
    parser.add_argument("--task-stop-seconds", type=float, default=0.4, help="ECS task: told to stop to STOPPED")
    parser.add_argument("--run-task-seconds", type=float, default=2.0, help="how long a task of RunTask works")
    parser.add_argument("--db-transition-seconds", type=float, default=0.5, help="Aurora: starting and stopping")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end when standard input closes")
    return parser.parse_args(arguments)


def end_with_stdin():
    while sys.stdin.buffer.read(4096):
        pass
    os._exit(0)
