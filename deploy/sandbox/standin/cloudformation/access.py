"""Who may do what, and with which keys: IAM, KMS, RAM; and the images of ECR."""

import json

from moto.ec2.models import ec2_backends
from moto.iam.aws_managed_policies import aws_managed_policies_data
from moto.iam.models import AWSManagedPolicy, iam_backends
from moto.organizations.models import organizations_backends

from .kinds import Made, kind


def attach(api, role, arn):
    """A policy to a role. moto has those of AWS's own by the thousand or not at all: here each is there when it is named."""
    own = iam_backends[api.account]["aws"].managed_policies
    if arn.startswith("arn:aws:iam::aws:policy/") and arn not in own:
        known = json.loads(aws_managed_policies_data).get(arn.split("/")[-1])
        if known:
            policy = AWSManagedPolicy.from_data(arn.split("/")[-1], api.account, api.region, known)
            own[policy.arn] = policy
    api("iam", "AttachRolePolicy", RoleName=role, PolicyArn=arn)


@kind("AWS::IAM::Role")
def role(api, given, name):
    name = given.take("RoleName", name[:64])
    inline, managed = given.take("Policies", []), given.take("ManagedPolicyArns", [])
    made = api("iam", "CreateRole", RoleName=name, Tags=given.tags(), **given.pick(
        "AssumeRolePolicyDocument", "Path", "Description", "MaxSessionDuration", "PermissionsBoundary"))["Role"]

    def write(policies, arns, gone=(), detached=()):
        for policy in policies:
            api("iam", "PutRolePolicy", RoleName=name, **policy)
        for arn in arns:
            attach(api, name, arn)
        for policy in gone:
            api("iam", "DeleteRolePolicy", RoleName=name, PolicyName=policy)
        for arn in detached:
            api("iam", "DetachRolePolicy", RoleName=name, PolicyArn=arn)

    def change(now):
        policies, arns = now.take("Policies", []), now.take("ManagedPolicyArns", [])
        api("iam", "UpdateAssumeRolePolicy", RoleName=name, PolicyDocument=now.take("AssumeRolePolicyDocument"))
        now.pick("RoleName", "Path", "Description", "MaxSessionDuration", "PermissionsBoundary", "Tags")
        had = api("iam", "ListRolePolicies", RoleName=name)["PolicyNames"]
        write(policies, arns, set(had) - {policy["PolicyName"] for policy in policies})
        return resource

    def undo():
        had = api("iam", "ListAttachedRolePolicies", RoleName=name)["AttachedPolicies"]
        write((), (), api("iam", "ListRolePolicies", RoleName=name)["PolicyNames"], [p["PolicyArn"] for p in had])
        api("iam", "DeleteRole", RoleName=name)

    write(inline, managed)
    resource = Made(name, {"Arn": made["Arn"], "RoleId": made["RoleId"]}, undo, change)
    return resource


@kind("AWS::IAM::Policy", "AWS::IAM::RolePolicy")
def policy(api, given, name):
    roles = [given.take("RoleName")] if "RoleName" in given.left else given.take("Roles")
    policy = given.pick("PolicyName", "PolicyDocument")
    for role in roles:
        api("iam", "PutRolePolicy", RoleName=role, **policy)

    def undo():
        for role in roles:
            api("iam", "DeleteRolePolicy", RoleName=role, PolicyName=policy["PolicyName"])

    return Made(name, {}, undo)


@kind("AWS::IAM::ManagedPolicy")
def managed_policy(api, given, name):
    roles = given.take("Roles", [])
    arn = api("iam", "CreatePolicy", PolicyName=given.take("ManagedPolicyName", name),
              **given.pick("PolicyDocument", "Path", "Description"))["Policy"]["Arn"]
    for role in roles:
        api("iam", "AttachRolePolicy", RoleName=role, PolicyArn=arn)

    def undo():
        for role in roles:
            api("iam", "DetachRolePolicy", RoleName=role, PolicyArn=arn)
        api("iam", "DeletePolicy", PolicyArn=arn)

    return Made(arn, {"PolicyArn": arn}, undo)


@kind("AWS::IAM::InstanceProfile")
def instance_profile(api, given, name):
    name, roles = given.take("InstanceProfileName", name), given.take("Roles")
    made = api("iam", "CreateInstanceProfile", InstanceProfileName=name, **given.pick("Path"))["InstanceProfile"]
    for role in roles:
        api("iam", "AddRoleToInstanceProfile", InstanceProfileName=name, RoleName=role)

    def undo():
        for role in roles:
            api("iam", "RemoveRoleFromInstanceProfile", InstanceProfileName=name, RoleName=role)
        api("iam", "DeleteInstanceProfile", InstanceProfileName=name)

    return Made(name, {"Arn": made["Arn"]}, undo)


@kind("AWS::KMS::Key")
def key(api, given, name):
    days, rotated = given.take("PendingWindowInDays", 30), given.take("EnableKeyRotation", False)
    policy = given.take("KeyPolicy")
    made = api("kms", "CreateKey", Policy=policy, Tags=given.tags("TagKey", "TagValue"),
               **given.pick("Description", "KeySpec", "KeyUsage", "MultiRegion"))["KeyMetadata"]
    if str(rotated).lower() == "true":
        api("kms", "EnableKeyRotation", KeyId=made["KeyId"], **given.pick("RotationPeriodInDays"))
    return Made(made["KeyId"], {"Arn": made["Arn"], "KeyId": made["KeyId"]}, lambda: api(
        "kms", "ScheduleKeyDeletion", KeyId=made["KeyId"], PendingWindowInDays=days))


@kind("AWS::KMS::Alias")
def alias(api, given, name):
    name = given.take("AliasName")
    api("kms", "CreateAlias", AliasName=name, **given.pick("TargetKeyId"))
    return Made(name, {}, lambda: api("kms", "DeleteAlias", AliasName=name))


@kind("AWS::RAM::ResourceShare")
def resource_share(api, given, name):
    """Subnets are known in each account that they are shared with, and so is their VPC; moto only keeps that they are shared."""
    tags, arns, shared_with = given.tags("key", "value"), given.left.get("ResourceArns", []), given.left.get("Principals", [])
    given.pick("PermissionArns")
    arn = api("ram", "CreateResourceShare", tags=tags, **given.rest())["resourceShare"]["resourceShareArn"]
    own = ec2_backends[api.account][api.region]
    for account in members(api.account, shared_with):
        theirs = ec2_backends[account][api.region]
        for subnet in (own.get_subnet(one.split("/")[-1]) for one in arns if ":subnet/" in one):
            theirs.subnets[subnet.availability_zone][subnet.id] = subnet
            theirs.vpcs[subnet.vpc_id] = own.vpcs[subnet.vpc_id]
    return Made(arn, {"Arn": arn}, lambda: api("ram", "DeleteResourceShare", resourceShareArn=arn))


def members(account, principals):
    """Accounts of an organisation, of its units, or named."""
    ends = [principal.split("/")[-1] for principal in principals]
    known = organizations_backends[account]["aws"]
    whole = known.org and known.org.id in ends
    return [one.id for one in known.accounts if one.id != account and (whole or one.parent_id in ends or one.id in ends)]


@kind("AWS::ECR::Repository")
def repository(api, given, name):
    name, lifecycle = given.take("RepositoryName", name.lower()), given.take("LifecyclePolicy", None)
    policy = given.take("RepositoryPolicyText", None)
    emptied = str(given.take("EmptyOnDelete", False)).lower() == "true"
    made = api("ecr", "CreateRepository", repositoryName=name, tags=given.tags(), **given.pick(
        "ImageTagMutability", "ImageScanningConfiguration", "EncryptionConfiguration"))["repository"]
    if lifecycle:
        api("ecr", "PutLifecyclePolicy", repositoryName=name, lifecyclePolicyText=lifecycle["LifecyclePolicyText"])
    if policy:
        api("ecr", "SetRepositoryPolicy", repositoryName=name, policyText=json.dumps(policy))
    return Made(name, {"Arn": made["repositoryArn"], "RepositoryUri": made["repositoryUri"]},
                lambda: api("ecr", "DeleteRepository", repositoryName=name, force=emptied))
