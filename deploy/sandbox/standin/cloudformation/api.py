"""The stand-in's own API as a handler calls it: with a template's properties, fitted to the shape of the request.

CloudFormation names a property as the API does, but for the case of letters. What the API has no place for is an error,
so that nothing which a template says is lost.
"""

import json
import threading

from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from botocore.session import get_session
from moto.core.exceptions import ServiceException

KEY = "cloudformation"  # of the calls that stacks make
OPTIONS = {"retries": {"max_attempts": 0, "mode": "standard"}, "read_timeout": 60, "s3": {"addressing_style": "path"}}


class Failed(ServiceException):
    """What can't be made: the reason that a stack's events tell, or the answer to the call where there is no stack yet."""

    code = "ValidationError"


class Api:
    """Calls in one account and region."""

    session, lock, clients, url = get_session(), threading.Lock(), {}, None
    caller = threading.local()  # a client takes a while to make, and serves all accounts

    def __init__(self, account, region):
        self.account, self.region = account, region

    def client(self, service):
        with Api.lock:  # a session makes one client at a time
            if (self.region, service) not in Api.clients:
                client = Api.session.create_client(
                    service, self.region, endpoint_url=Api.url, aws_access_key_id=KEY,
                    aws_secret_access_key="none", config=Config(**OPTIONS))
                client.meta.events.register("before-sign", lambda request, **_: request.headers.add_header(
                    "x-moto-account-id", Api.caller.account))
                Api.clients[self.region, service] = client
            return Api.clients[self.region, service]

    def __call__(self, service, operation, **given):
        client, Api.caller.account = self.client(service), self.account
        shape = client.meta.service_model.operation_model(operation).input_shape
        try:
            return client._make_api_call(operation, fit(given, shape, operation))
        except ClientError as error:
            said = error.response["Error"]
            raise Failed(f"{operation}: {said['Code']}: {said['Message']}") from error
        except ResponseParserError as error:
            raise Failed(f"{operation}: the stand-in can't do that; its log has the reason") from error


def fit(value, shape, where):
    kind = shape.type_name
    if kind == "structure":
        if not isinstance(value, dict):
            raise Failed(f"{where} has to be an object, and is {value!r}")
        names = {name.lower(): name for name in shape.members}
        unknown = [key for key in value if key.lower() not in names]
        if unknown:
            raise Failed(f"{where} has no place for {', '.join(unknown)}")
        return {names[key.lower()]: fit(inner, shape.members[names[key.lower()]], f"{where}.{key}")
                for key, inner in value.items() if inner is not None}
    if kind == "list":
        if not isinstance(value, list):
            raise Failed(f"{where} has to be a list, and is {value!r}")
        return [fit(inner, shape.member, f"{where}[{index}]") for index, inner in enumerate(value)]
    if kind == "map":
        named = getattr(shape.key, "enum", None)
        if named and set(value) - set(named):
            raise Failed(f"{where} has no place for {', '.join(sorted(set(value) - set(named)))}")
        return {key: fit(inner, shape.value, f"{where}.{key}") for key, inner in value.items()}
    try:
        return SCALARS.get(kind, lambda value: value)(value)
    except (TypeError, ValueError):
        raise Failed(f"{where} has to be of type {kind}, and is {value!r}") from None


def text(value):
    """Policies are objects in a template and texts in the API."""
    if isinstance(value, bool):
        return str(value).lower()
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def boolean(value):
    if str(value).lower() not in ("true", "false"):
        raise ValueError(value)
    return str(value).lower() == "true"


SCALARS = {"string": text, "boolean": boolean, "integer": int, "long": int, "float": float, "double": float}
