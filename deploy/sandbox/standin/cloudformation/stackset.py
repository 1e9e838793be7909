"""Stack sets: a template for every account of an organisational unit.

moto hides the stacks of a set that the organisation manages, and reports each of them as made. Here an instance is a
stack of its account like any other, and what fails there is told by the set's own resource. Nothing is brought to accounts
that join the unit later.
"""

from urllib.parse import urlparse

from moto.cloudformation import models

from .api import Failed
from .kinds import Made, kind


def install():
    models.StackInstance.__init__, models.StackInstance.delete = make, delete


def make(instance, account_id, region_name, stackset_id, stack_name, name, template, parameters, permission_model):
    instance.account_id, instance.region_name, instance.stackset_id = account_id, region_name, stackset_id
    instance.stack_name, instance.name, instance.template = stack_name, name, template
    instance.permission_model, instance.parameters = permission_model, parameters or []
    given = parameters if isinstance(parameters, dict) else {
        one["ParameterKey"]: one["ParameterValue"] for one in parameters or []}
    instance.stack = models.cloudformation_backends[account_id][region_name].create_stack(
        f"StackSet-{name}-{stackset_id.split(':')[-1]}", template, given)
    if instance.stack.status != "CREATE_COMPLETE":
        raise Failed(f"account {account_id}: {instance.stack.stack_status_reason}")


def delete(instance):
    models.cloudformation_backends[instance.account_id][instance.region_name].delete_stack(instance.stack.name)


@kind("AWS::CloudFormation::StackSet")
def stack_set(api, given, name):
    name, groups = given.take("StackSetName", name), given.take("StackInstancesGroup", [])
    url = urlparse(given.take("TemplateURL", ""))
    body = given.take("TemplateBody", None) if not url.netloc else api(
        "s3", "GetObject", Bucket=url.netloc.split(".")[0], Key=url.path.lstrip("/"))["Body"].read().decode()
    # How it is rolled out in AWS, and to whom later: there is nothing of it here.
    given.pick("CallAs", "ManagedExecution", "OperationPreferences", "AutoDeployment", "Capabilities")
    id = api("cloudformation", "CreateStackSet", StackSetName=name, TemplateBody=body, Tags=given.tags(), **given.pick(
        "Description", "PermissionModel", "Parameters"))["StackSetId"]
    for group in groups:
        api("cloudformation", "CreateStackInstances", StackSetName=name, **group)

    def undo():
        made = api("cloudformation", "ListStackInstances", StackSetName=name)["Summaries"]
        for one in made:
            api("cloudformation", "DeleteStackInstances", StackSetName=name, Accounts=[one["Account"]],
                Regions=[one["Region"]], RetainStacks=False)
        api("cloudformation", "DeleteStackSet", StackSetName=name)

    return Made(id, {"StackSetId": id}, undo)
