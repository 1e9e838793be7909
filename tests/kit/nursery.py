"""Runs a command in which every start of the AWS stand-in costs a fork: `nursery.py COMMAND...`, which becomes that command.

Some 270 tests start a stand-in of their own, and each would import moto and load what AWS has anew: five seconds of a
processor until it has answered one call of each service. Here one process does that once. It has no state of
its own and no thread; each stand-in is a fork of it, knows nothing of the others, and ends with the process that asked for it.
"""

import gc
import json
import os
import select
import shutil
import signal
import socket
import sys
import tempfile
import threading
import traceback
from pathlib import Path

SANDBOX = Path(__file__).resolve().parents[2] / "deploy/sandbox"
# A question to each service that tests call: what moto and the SDK have of the service is loaded for the first answer.
QUESTIONS = {
    "cloudformation": "ListStacks", "ec2": "DescribeSecurityGroups", "iam": "ListRoles", "monitoring": "DescribeAlarms",
    "rds": "DescribeDBClusters", "sns": "ListTopics", "sts": "GetCallerIdentity",
    "ecr": "AmazonEC2ContainerRegistry_V20150921.DescribeRepositories",
    "ecs": "AmazonEC2ContainerServiceV20141113.ListClusters", "logs": "Logs_20140328.DescribeLogGroups",
    "secretsmanager": "secretsmanager.ListSecrets", "sqs": "AmazonSQS.ListQueues", "s3": "",
}
NOBODY = "000000000000"  # the account that asks, which no test has


def main(command):
    folder = Path(tempfile.mkdtemp(prefix="nursery-"))
    path = str(folder / "socket")
    listener = socket.create_server(path, family=socket.AF_UNIX, backlog=64)  # who comes early waits there
    itself = os.pidfd_open(os.getpid())
    if os.fork():
        os.execvpe(command[0], command, os.environ | {"SFDATA_STANDIN_NURSERY": path})
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a stand-in
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command decides when it is over
    try:
        nurse(listener, itself)
    finally:
        shutil.rmtree(folder)


def nurse(listener, command):
    aws = get_ready()
    while command not in select.select([listener, command], [], [])[0]:
        line, _ = listener.accept()
        if os.fork():
            line.close()
            continue
        try:
            os.close(command)
            listener.close()
            live(aws, line)
        except BaseException:
            traceback.print_exc()
        os._exit(1)


def get_ready():
    sys.path.insert(0, str(SANDBOX))
    from standin import control, server
    from werkzeug.test import Client

    aws = server.prepare()
    client = Client(control.Gate(aws))
    for service, question in QUESTIONS.items():
        asked = {"headers": {"x-moto-account-id": NOBODY, "Authorization": f"AWS4-HMAC-SHA256 Credential=x/20260101/eu-west-2/"
                             f"{service}/aws4_request, SignedHeaders=host, Signature=x"}}
        if "." in question:
            asked["headers"]["X-Amz-Target"] = question
            answer = client.post("/", data="{}", content_type="application/x-amz-json-1.1", **asked)
        elif question:
            answer = client.post("/", data={"Action": question}, **asked)
        else:
            answer = client.get("/", **asked)
        assert answer.status_code == 200, f"{service}: {answer.get_data(as_text=True)}"
    gc.collect()
    gc.freeze()  # so that no collection writes to pages that are shared
    return aws


def live(aws, line):
    """Be one stand-in, in a fork."""
    from moto.moto_api._internal import mock_random
    from standin import server

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    message, streams, *_ = socket.recv_fds(line, 65536, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    mock_random.seed()  # or all would name what they make alike
    threading.Thread(target=end_with, args=(line,), daemon=True).start()
    server.serve(aws, json.loads(message))


def end_with(line):
    line.recv(1)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
