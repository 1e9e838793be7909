"""The words of the AWS command line, asked of the stand-in by boto3: what `aws SERVICE OPERATION --option value...` would answer.

The command line itself takes a second to start and is installed nowhere here; `deploy/sandbox/tools/aws` sends its words to
this. Only as much of it as hubctl and deploy/load use: options with plain values, lists, and the Name=...,Values=... shorthand.
"""

import json
from functools import cache

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

SERVICES = {"s3api": "s3"}


class Wrong(Exception):
    """Words that the command line would not take."""


@cache
def client(url, service, keys, region):
    session = botocore.session.get_session()
    access, secret, token = keys
    return session.create_client(
        SERVICES.get(service, service), region_name=region, endpoint_url=url, aws_access_key_id=access, aws_secret_access_key=secret,
        aws_session_token=token or None, config=Config(retries={"max_attempts": 0, "mode": "standard"}, s3={"addressing_style": "path"}))


def run(url, words, keys, region):
    """Exit code and what goes to standard output and standard error."""
    try:
        service, operation, *rest = words
        asked = client(url, service, tuple(keys), region)
        name = next((name for name in asked.meta.method_to_api_mapping if name.replace("_", "-") == operation), None)
        if name is None:
            raise Wrong(f"argument operation: Invalid choice: {operation}")
        model = asked.meta.service_model.operation_model(asked.meta.method_to_api_mapping[name])
        answer = getattr(asked, name)(**parameters(model.input_shape, rest))
        answer.pop("ResponseMetadata", None)
        return {"code": 0, "out": json.dumps(answer, default=str) + "\n" if answer else "", "err": ""}
    except ClientError as error:
        return {"code": 254, "out": "", "err": f"\n{error}\n"}
    except (Wrong, BotoCoreError) as error:
        return {"code": 252, "out": "", "err": f"\naws: error: {error}\n"}


def parameters(shape, words):
    """Options as the operation's parameters."""
    members = {option(member): member for member in (shape.members if shape else {})}
    given, at = {}, None
    for word in words:
        if word.startswith("--"):
            at = word[2:]
            if at not in members and at != "output":
                raise Wrong(f"Unknown options: {word}")
            given[at] = []
        elif at is None:
            raise Wrong(f"Unknown options: {word}")
        else:
            given[at].append(word)
    given.pop("output", None)
    return {members[at]: value(shape.members[members[at]], values) for at, values in given.items()}


def option(member):
    """Its name on the command line: VpcEndpointIds is vpc-endpoint-ids, DBClusterIdentifier db-cluster-identifier."""
    parts, word = [], ""
    for index, letter in enumerate(member):
        after = member[index + 1:index + 2]
        if word and letter.isupper() and (word[-1].islower() or (after.islower() and after)):
            parts.append(word)
            word = ""
        word += letter
    return "-".join([*parts, word]).lower()


def value(shape, values):
    if shape.type_name == "list":
        return [value(shape.member, [one]) for one in values]
    if len(values) != 1:
        raise Wrong(f"expected one argument, and there are {len(values)}")
    [text] = values
    if shape.type_name == "structure":
        pairs = dict(part.split("=", 1) for part in text.split(",") if "=" in part)
        return {name: value(shape.members[name], [part]) for name, part in pairs.items()}
    if shape.type_name in ("integer", "long"):
        return int(text)
    return text.startswith("file://") and open(text[7:]).read() or text
