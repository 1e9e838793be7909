"""The runner's view of the stand-in: which tasks are to run, and what became of them; and secrets, as ECS resolves them."""

import json
import urllib.error
import urllib.request

import boto3


class Unreachable(Exception):
    """The stand-in did not answer, or did not understand."""


class Standin:
    def __init__(self, url, facts):
        self.url, self.account, self.region = url, facts["account"], facts["region"]
        self.session = boto3.Session(facts["access_key_id"], facts["secret_access_key"], facts["session_token"], self.region)
        self.manager, self.sts = (self.session.client(name, endpoint_url=url) for name in ("secretsmanager", "sts"))

    def credentials(self, role):
        """Those of a task's role, as ECS hands them out, as variables; a task without a role has none."""
        if not role:
            return {}
        keys = self.sts.assume_role(RoleArn=role, RoleSessionName="task")["Credentials"]
        return {"AWS_ACCESS_KEY_ID": keys["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": keys["SecretAccessKey"],
                "AWS_SESSION_TOKEN": keys["SessionToken"], "AWS_REGION": self.region, "AWS_DEFAULT_REGION": self.region,
                "AWS_ENDPOINT_URL": self.url}

    def tasks(self):
        return self.ask(f"hosting?account={self.account}&region={self.region}")["tasks"]

    def report(self, task, **more):
        return self.ask("hosting", {"account": self.account, "region": self.region, "task": task, **more})

    def ask(self, path, body=None):
        request = urllib.request.Request(f"{self.url}/standin/{path}", body and json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                return json.load(reply)
        except (OSError, ValueError) as error:
            raise Unreachable(f"{path}: {error}") from error

    def secret(self, place):
        """A secret by its ARN, which may name one key of a JSON value: arn:...:secret:NAME:key:stage:version."""
        arn, key = ":".join(place.split(":")[:7]), ([*place.split(":")[7:], ""])[0]
        value = self.manager.get_secret_value(SecretId=arn)["SecretString"]
        return json.loads(value)[key] if key else value
