"""The control endpoint, and the gate in front of moto that counts calls and injects faults.

Tests need to know what the product really asked of AWS, and to make AWS fail on purpose; both are done here, before a
request reaches moto, so that they hold for every service alike. Whatever begins with /standin/ is for tests.
Invariants: a call is logged once, when it has been answered; a fault with `times` is used up exactly that often,
also by concurrent calls; a call that a fault answered in moto's place never had an effect.
"""

import io
import json
import re
import threading
import time
import uuid
from collections import Counter, deque
from urllib.parse import parse_qs, parse_qsl

from botocore.exceptions import UnknownServiceError
from moto.core.request import Request
from moto.core.routing import get_service_router
from moto.ecs.models import ecs_backends
from moto.iam.models import get_account_id_from
from werkzeug.exceptions import HTTPException, InternalServerError
from werkzeug.wrappers import Response

from .cloudformation.api import KEY
from . import REGION, behaviour, cli, cloudwatch, ecs, foreign, hosting, logs, s3, seed

CALLS_KEPT = 100_000
HANG_SECONDS = 60.0
# Error code and HTTP status of a kind of fault, in each protocol.
ERRORS = {
    "throttle": {"json": ("ThrottlingException", 400), "query": ("Throttling", 400),
                 "ec2": ("RequestLimitExceeded", 503), "s3": ("SlowDown", 503)},
    "error500": {"json": ("ServerException", 500), "query": ("InternalFailure", 500),
                 "ec2": ("InternalError", 500), "s3": ("InternalError", 500)},
    "access_denied": {"json": ("AccessDeniedException", 400), "query": ("AccessDenied", 403),
                      "ec2": ("UnauthorizedOperation", 403), "s3": ("AccessDenied", 403)},
    "conflict": {"json": ("ConflictException", 400), "query": ("ConflictException", 409),
                 "ec2": ("IncorrectState", 400), "s3": ("OperationAborted", 409)},
    "not_found": {"json": ("ResourceNotFoundException", 400), "query": ("ResourceNotFoundFault", 404),
                  "ec2": ("InvalidParameterValue", 400), "s3": ("NoSuchBucket", 404)},
}
MESSAGES = {"throttle": "Rate exceeded", "error500": "The request failed for an unknown reason on the server",
            "access_denied": "The caller is not authorized to perform: {service}:{action}",
            "conflict": "A conflicting operation is in progress against this resource. Please try again.",
            "not_found": "What {service}:{action} names does not exist"}
XML = {
    "query": "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
             "<RequestId>{id}</RequestId></ErrorResponse>",
    "ec2": "<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
           "<RequestID>{id}</RequestID></Response>",
    "s3": "<Error><Code>{code}</Code><Message>{message}</Message><RequestId>{id}</RequestId></Error>",
}
KINDS = (*ERRORS, "html500", "hang", "lost_reply", "stale")
# They reach moto: the call is done, and counts.
DONE = ("lost_reply", "stale")
BEHAVIOURS = ("normal", "never-starts", "crashes", "no-spot", *behaviour.START_FAILURES)


class BadRequest(Exception):
    """A request to the control endpoint that cannot be understood; the message goes back to the caller."""


class Fault:
    def __init__(self, kind, service="*", action="*", account=None, times=1, seconds=HANG_SECONDS, skip=0, text=""):
        if kind not in KINDS:
            raise BadRequest(f"kind must be one of {', '.join(KINDS)}")
        self.kind, self.service, self.action, self.account = kind, service, action, account
        self.times, self.seconds, self.removed = times, seconds, threading.Event()
        self.text = text  # what the error says beside what it always does
        self.skip = skip  # so many calls that match go well before

    def matches(self, call):
        return (self.account in (None, call["account"]) and self.service in ("*", call["service"])
                and self.action in ("*", call["action"]))


class Gate:
    """The WSGI application: control requests are answered here, AWS calls go on to moto."""

    def __init__(self, aws):
        self.aws, self.lock = aws, threading.Lock()
        self.url = ""  # its own, once it listens
        self.calls, self.sequence, self.faults = deque(maxlen=CALLS_KEPT), 0, []

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        if path.startswith("/standin/"):
            return self.control(environ)(environ, start_response)
        if path.startswith("/moto-api"):
            return self.aws(environ, start_response)

        call, protocol = read_call(environ)
        if "HTTP_AUTHORIZATION" not in environ and "X-Amz-Credential" in environ["QUERY_STRING"]:
            environ["HTTP_X_MOTO_ACCOUNT_ID"] = call["account"]  # moto does not look for it in a presigned URL
        fault = self.take_fault(call)
        if not fault:
            return self.forward(call, environ, start_response)
        call["fault"] = fault.kind
        if fault.kind == "stale":
            environ["HTTP_X_STANDIN_STALE"] = "1"  # what S3 tells of a policy is the one before
            return self.forward(call, environ, start_response)
        if fault.kind == "hang":
            fault.removed.wait(fault.seconds)
        if fault.kind == "lost_reply":
            self.forward(call, environ, lambda *_: None)
        reply = error_reply(call, protocol, fault)
        if fault.kind != "lost_reply":
            self.record(call, reply.status_code)
        return reply(environ, start_response)

    def forward(self, call, environ, start_response):
        def answered(status, headers, exc_info=None):
            call["status"] = int(status.split()[0])
            return start_response(status, headers, exc_info)

        call["status"] = 500  # moto raises for what it does not know, and the server turns that into HTML
        try:
            cbor = environ["PATH_INFO"].startswith(cloudwatch.PREFIX)
            return (cloudwatch.application(call["account"]) if cbor else self.aws)(environ, answered)
        finally:
            self.record(call, call["status"])

    def record(self, call, status):
        if call.pop("by_stack"):
            return  # AWS's own doing, which is in no account's log of calls
        with self.lock:
            self.sequence += 1
            self.calls.append({"sequence": self.sequence, **call, "status": status})

    def take_fault(self, call):
        with self.lock:
            fault = next((fault for fault in self.faults if fault.matches(call)), None)
            if fault and fault.skip > 0:
                fault.skip -= 1
                return None
            if fault and fault.times is not None:
                fault.times -= 1
                if fault.times <= 0:
                    self.faults.remove(fault)
            return fault

    def control(self, environ):
        request = Request(environ)
        name = f"{request.method} {request.path}"
        try:
            handler = ROUTES.get(name)
            if not handler:
                return reply_json({"error": f"no such control request: {name}"}, 404)
            body = json.loads(request.get_data() or b"{}")
            return reply_json(handler(self, {**request.args, **body}))
        except (BadRequest, KeyError, TypeError, ValueError) as error:
            return reply_json({"error": f"{type(error).__name__}: {error}"}, 400)

    def list_calls(self, query):
        with self.lock:
            calls = list(self.calls)
        names = [name for name in ("account", "service", "action") if name in query]
        calls = [call for call in calls if all(call[name] == query[name] for name in names)
                 and call["sequence"] > int(query.get("after", 0))
                 and (query.get("faults") == "1" or call["fault"] in (None, *DONE))]
        if query.get("count") == "1":
            actions = Counter(f"{call['service']}:{call['action']}" for call in calls)
            return {"count": len(calls), "actions": dict(actions)}
        return {"count": len(calls), "calls": calls}

    def forget_calls(self, _):
        with self.lock:
            self.calls.clear()
        return {}

    def add_fault(self, body):
        fault = Fault(**body)
        with self.lock:
            self.faults.append(fault)
        return {}

    def remove_faults(self, _):
        with self.lock:
            removed, self.faults = self.faults, []
        for fault in removed:
            fault.removed.set()
        return {"removed": len(removed)}

    def ask(self, body):
        return cli.run(self.url, body["words"], body["keys"], body["region"])

    def set_behaviour(self, body):
        if body["behaviour"] not in BEHAVIOURS:
            raise BadRequest(f"behaviour must be one of {', '.join(BEHAVIOURS)}")
        group = f"service:{body['service']}" if "service" in body else f"family:{body['family']}"
        backend = ecs_backends[body["account"]][body.get("region", REGION)]
        with backend.lock:
            backend.advance(time.time())
            backend.behaviours[body["cluster"], group] = behaviour.Behaviour(
                body["behaviour"], body.get("image", ""), body.get("provider", ""), body.get("run_seconds"),
                body.get("exit_code", 0))
            freed = [task for task in backend.live if body["behaviour"] == "normal" and task.group == group
                     and task.cluster_arn.endswith(f"/{body['cluster']}")]
            for task in freed:
                task.free(time.time())
        return {}

    def forget_tokens(self, query):
        """As ECS does after a day at most: the same client token starts another task from then on."""
        backend = ecs_backends[query["account"]][query.get("region", REGION)]
        with backend.lock:
            backend.runs.clear()
        return {}

    def write_logs(self, body):
        """Let the newest running task of a service write lines."""
        backend = ecs_backends[body["account"]][body.get("region", REGION)]
        with backend.lock:
            backend.advance(time.time())
            tasks = [task for task in backend.live if task.group == f"service:{body['service']}" and task.started_at]
            if not tasks:
                raise BadRequest(f"no task of {body['service']} runs")
            logs.write(tasks[-1], body["lines"], body.get("at"))
            return {"task": tasks[-1].id}

    def list_tasks(self, query):
        """Services, and every task of an account that is still known, with what no call of ECS tells."""
        backend = ecs_backends[query["account"]][query.get("region", REGION)]
        with backend.lock:
            backend.advance(time.time())
            services = {service.name: {
                "desired": service.desired_count, "tasks": len(service.tasks),
                "running": sum(task.status == "RUNNING" for task in service.tasks),
            } for service in backend.services.values() if service.status == "ACTIVE"}
            return {"services": services, "tasks": [{
                "id": task.id, "group": task.group, "started_by": task.started_by, "status": task.status,
                "desired_status": task.desired_status, "definition": task.definition.arn,
                "address": task.address, "provider": task.provider, "overrides": task.overrides,
                "created_at": task.created_at, "stopped_at": task.stopped_at,
                "images": [container["image"] for container in task.definition.container_definitions],
            } for tasks in backend.tasks.values() for task in tasks.values()]}

    def seed(self, body):
        region = body.get("region", REGION)
        if "la" not in body:
            return foreign.estate(body["account"], region)
        if "instance" in body:
            seed.make_instance(body["account"], region, body["instance"])
        made = seed.estate(body["account"], body["la"], region, body.get("hosted", False))
        if "arrivals" in body:
            made["arrivals"] = seed.make_arrivals(body["account"], region, body["la"])
        return made

    def role(self, body):
        """Keys of a role of an account, which is made where it is not there; with `anew` it is deleted before."""
        return seed.role(body["account"], body.get("region", REGION), body["role"], body.get("anew", False))

    def list_hosted(self, query):
        return hosting.tasks(query)

    def host(self, body):
        return hosting.host(body)

    def report_hosted(self, body):
        return hosting.report(body)

    def keep_policy(self, body):
        s3.keep_policy(**body)
        return {}

    def ready(self, _):
        return {"ready": True}


ROUTES = {
    "GET /standin/ready": Gate.ready,
    "GET /standin/calls": Gate.list_calls,
    "DELETE /standin/calls": Gate.forget_calls,
    "POST /standin/faults": Gate.add_fault,
    "DELETE /standin/faults": Gate.remove_faults,
    "POST /standin/tasks": Gate.set_behaviour,
    "POST /standin/logs": Gate.write_logs,
    "GET /standin/tasks": Gate.list_tasks,
    "DELETE /standin/tokens": Gate.forget_tokens,
    "POST /standin/seed": Gate.seed,
    "POST /standin/role": Gate.role,
    "GET /standin/hosting": Gate.list_hosted,
    "POST /standin/hosted": Gate.host,
    "POST /standin/hosting": Gate.report_hosted,
    "POST /standin/policy": Gate.keep_policy,
    "POST /standin/cli": Gate.ask,
}


def read_call(environ):
    """Who asks for what: the log's entry of a request, and the protocol that an error has to be told in."""
    request = Request(environ)
    signed = request.headers.get("Authorization") or request.args.get("X-Amz-Credential", "")
    credential = re.search(r"(?:Credential=|^)([^/,\s]+)/\d{8}/[^/]+/([^/]+)/aws4_request", signed)
    key, service = credential.groups() if credential else ("", "")
    body = b""
    if service not in ("", "s3") or request.mimetype == "application/x-www-form-urlencoded":
        body = environ["wsgi.input"].read(request.content_length or 0)
        environ["wsgi.input"] = io.BytesIO(body)
    target = request.headers.get("X-Amz-Target")
    form = dict(parse_qsl(body.decode("utf-8", "replace"))) if request.mimetype.endswith("form-urlencoded") else {}
    if target:
        protocol, action, params = "json", target.rsplit(".", 1)[-1], json.loads(body or b"{}")
    elif request.path.startswith(cloudwatch.PREFIX):
        protocol, action, params = "cbor", request.path.removeprefix(cloudwatch.PREFIX), {}
    elif "Action" in form:
        protocol, action = "ec2" if service == "ec2" else "query", form.pop("Action")
        service, params = service or "sts", form  # the calls that need no signature are of STS
        form.pop("Version", None)
    else:
        service = service or "s3"
        protocol = "s3" if service == "s3" else "json"
        action, params = route(service, request)
    call = {"time": time.time(), "by_stack": key == KEY, "service": service, "action": action, "params": params, "fault": None,
            "account": request.headers.get("x-moto-account-id") or get_account_id_from(key)}
    return call, protocol


def route(service, request):
    """The operation of a REST call, as far as the service's model names it."""
    try:
        operation, params = get_service_router(service).match(request)
        query = {name: values[0] for name, values in parse_qs(request.query_string.decode()).items()
                 if not name.startswith("X-Amz-")}
        return operation.name, {**params, **query}
    except (HTTPException, UnknownServiceError):
        return f"{request.method} {request.path}", {}


def error_reply(call, protocol, fault):
    if fault.kind == "html500":
        return InternalServerError().get_response()
    kind = fault.kind if fault.kind in ERRORS else "error500"
    code, status = ERRORS[kind]["json" if protocol == "cbor" else protocol]
    message = f"{MESSAGES[kind].format(**call)} {fault.text}".strip()
    if protocol == "cbor":
        return cloudwatch.error(code, message, status)
    if protocol == "json":
        body = json.dumps({"__type": code, "message": message})
        return Response(body, status, {"x-amzn-errortype": code}, content_type="application/x-amz-json-1.1")
    body = XML[protocol].format(code=code, message=message, id=uuid.uuid4())
    return Response('<?xml version="1.0" encoding="UTF-8"?>\n' + body, status, content_type="text/xml")


def reply_json(value, status=200):
    return Response(json.dumps(value) + "\n", status, content_type="application/json")
