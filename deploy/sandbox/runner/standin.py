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
        self.credentials = {
            "AWS_ACCESS_KEY_ID": facts["access_key_id"], "AWS_SECRET_ACCESS_KEY": facts["secret_access_key"],
            "AWS_SESSION_TOKEN": facts["session_token"], "AWS_REGION": self.region, "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": url}
        self.manager = boto3.client(
            "secretsmanager", endpoint_url=url, region_name=self.region, aws_access_key_id=facts["access_key_id"],
            aws_secret_access_key=facts["secret_access_key"], aws_session_token=facts["session_token"])

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
