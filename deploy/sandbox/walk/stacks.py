"""What an engineer does in AWS to set a region up, with the virtual environment's boto3: `python -m walk.stacks URL REGION`.

Standard input is a JSON list of steps, each with the account that it is done in; standard output the list of what came
of them. Templates are loaded by CloudFormation alone. On an error: one line for a person on standard error, and 1.
"""

import hashlib
import json
import sys
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

WHO = "engineer"  # the stand-in lets everybody take on every role
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class Refused(Exception):
    """What did not come out, in words for a person."""


class Account:
    def __init__(self, url, region, account):
        self.url, self.region, self.id = url, region, account
        self.keys = {"aws_access_key_id": WHO, "aws_secret_access_key": "none"}
        self.keys = self.assume(WHO)

    def client(self, service):
        return boto3.client(service, endpoint_url=self.url, region_name=self.region, **self.keys,
                            config=Config(retries={"max_attempts": 0, "mode": "standard"}, s3={"addressing_style": "path"}))

    def assume(self, role):
        keys = self.client("sts").assume_role(RoleArn=f"arn:aws:iam::{self.id}:role/{role}", RoleSessionName=role)["Credentials"]
        return {"aws_access_key_id": keys["AccessKeyId"], "aws_secret_access_key": keys["SecretAccessKey"],
                "aws_session_token": keys["SessionToken"]}


def organise(core, names):
    """An organisation with a unit for the LAs and an account for each. Gives its id, the unit's ARN and the accounts."""
    organisations = core.client("organizations")
    id = organisations.create_organization(FeatureSet="ALL")["Organization"]["Id"]
    [root] = organisations.list_roots()["Roots"]
    unit = organisations.create_organizational_unit(ParentId=root["Id"], Name="authorities")["OrganizationalUnit"]
    core.client("ram").enable_sharing_with_aws_organization()
    accounts = {}
    for name in names:
        made = organisations.create_account(AccountName=name, Email=f"{name}@example.org")["CreateAccountStatus"]
        organisations.move_account(AccountId=made["AccountId"], SourceParentId=root["Id"], DestinationParentId=unit["Id"])
        accounts[name] = made["AccountId"]
    return {"id": id, "unit": unit["Arn"], "unit_id": unit["Id"], "accounts": accounts}


def load(account, stack, template, parameters, update=False):
    """Load a template as a stack, or update that. Gives its outputs. What is not named in an update stays as it was."""
    cloudformation, body = account.client("cloudformation"), Path(template).read_text()
    given = [{"ParameterKey": name, "ParameterValue": str(value)} for name, value in parameters.items()]
    if update:
        kept = {one["ParameterKey"] for one in cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["Parameters"]}
        given += [{"ParameterKey": name, "UsePreviousValue": True} for name in sorted(kept - set(parameters))]
    call = cloudformation.update_stack if update else cloudformation.create_stack
    capabilities = ["CAPABILITY_NAMED_IAM"]
    try:
        call(StackName=stack, TemplateBody=body, Parameters=given, Capabilities=capabilities)
    except ClientError as error:
        raise Refused(f"{template} was not taken in account {account.id}: {error.response['Error']['Message']}") from error
    made = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
    if made["StackStatus"] != ("UPDATE_COMPLETE" if update else "CREATE_COMPLETE"):
        raise Refused(f"{template} in account {account.id}: {made['StackStatus']}: {made.get('StackStatusReason')}")
    return {output["OutputKey"]: output["OutputValue"] for output in made.get("Outputs", [])}


def push(account, repository, tags):
    """Images, as far as a registry sees them: a manifest for each tag."""
    ecr = account.client("ecr")
    for tag in tags:
        manifest = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "annotations": {"version": tag}})
        digest = "sha256:" + hashlib.sha256(manifest.encode()).hexdigest()
        ecr.put_image(repositoryName=repository, imageManifest=manifest, imageManifestMediaType=MANIFEST, imageTag=tag,
                      imageDigest=digest)


def put(account, bucket, objects, new=False):
    if new:
        account.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": account.region})
    for key, text in objects.items():
        account.client("s3").put_object(Bucket=bucket, Key=key, Body=text.encode())


def service(account, cluster, service):
    """What a deployed service runs with: its task definition's variables, secrets and roles, and its network."""
    ecs = account.client("ecs")
    [found] = ecs.describe_services(cluster=cluster, services=[service])["services"]
    task = ecs.describe_task_definition(taskDefinition=found["taskDefinition"])["taskDefinition"]
    [container] = task["containerDefinitions"]
    return {
        "environment": {entry["name"]: entry["value"] for entry in container.get("environment", [])},
        "secrets": {entry["name"]: entry["valueFrom"] for entry in container.get("secrets", [])},
        "command": container.get("command"), "family": task["family"], "role": task["taskRoleArn"],
        "execution_role": task["executionRoleArn"], "desired": found["desiredCount"],
        "network": found["networkConfiguration"]["awsvpcConfiguration"],
        "log_group": container["logConfiguration"]["options"]["awslogs-group"]}


def keys(account, role=WHO):
    """Credentials of a role, as ECS gives them to a task; or the engineer's own."""
    return account.assume(role.split("/")[-1])


def main():
    url, region = sys.argv[1:]
    steps = {step.__name__: step for step in (organise, load, push, put, service, keys)}
    accounts, done = {}, []
    for given in json.load(sys.stdin):
        id = given.pop("account")
        accounts[id] = accounts.get(id) or Account(url, region, id)
        done.append(steps[given.pop("step")](accounts[id], **given))
    json.dump(done, sys.stdout)


if __name__ == "__main__":
    try:
        main()
    except (Refused, ClientError, BotoCoreError) as error:
        sys.exit(str(error))
