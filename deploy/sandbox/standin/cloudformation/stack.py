"""Stacks: what moto's CloudFormation lacks around the resources, and where the handlers are put into it.

moto keeps stacks, parameters, conditions, references and outputs. Its own way of making a resource is replaced whole, as
are updating and taking away: here an update resolves the template anew and changes what differs.
"""

import re

import yaml
from moto.cloudformation import models, parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.utils import yaml_tag_constructor

from . import changes, functions, stackset
from .api import Api, Failed
from .kinds import KINDS


def install():
    # What moto reads templates with; in Python alone it takes longer than all that is made of them.
    yaml.Loader = yaml.CLoader
    yaml.CLoader.add_multi_constructor("", yaml_tag_constructor)
    functions.install()
    stackset.install()
    changes.install()
    moto_load, moto_init = parsing.ResourceMap.load_parameters, parsing.ResourceMap.__init__

    moto_parse = models.Stack.parse_template

    def parse_template(template):
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(template, yaml.CLoader)):
            raise Failed("Template error: YAML aliases are not allowed in CloudFormation templates")
        return moto_parse(template)

    def init(resources, *arguments, **options):
        resources.before, resources.replaced = {}, []
        moto_init(resources, *arguments, **options)

    def load_parameters(resources):
        moto_load(resources)
        load_lists(resources)

    parsing.ResourceMap.__init__, parsing.ResourceMap.load_parameters = init, load_parameters
    parsing.ResourceMap.validate_outputs = lambda _: None  # they are told, or fail the stack, when all is made
    parsing.parse_and_create_resource, parsing.resource_class_from_type = make, kind_of
    parsing.OutputMap.exports = property(exports)
    models.Stack.create_resources, models.Stack.update, models.Stack.delete = create_resources, update, delete
    models.Stack.exports = property(lambda stack: [] if stack.status in ("CREATE_PENDING", "REVIEW_IN_PROGRESS") else stack.output_map.exports)
    models.CloudFormationBackend._resolve_update_parameters = previous
    models.Stack.parse_template = staticmethod(parse_template)


def kind_of(type):
    if type not in KINDS:
        raise Failed(f"the stand-in makes no {type}")
    return KINDS[type]


def make(logical, resource, resources, account_id, region_name):
    """A resource of the template that is asked for the first time: made, or in an update kept, changed or replaced."""
    if "Condition" in resource and not resources.lazy_condition_map[resource["Condition"]]:
        return None
    try:
        api = Api(account_id, region_name)
        given = functions.resolve(parsing.clean_json(resource.get("Properties") or {}, resources), api)
        made = kind_of(resource["Type"]).become(
            resources.before.pop(logical, None), resources.replaced, given, api,
            parsing.generate_resource_name(resource["Type"], resources["AWS::StackName"], logical))
    except Failed as failed:
        told = failed.message
        raise failed if told.startswith("[") else Failed(f"[{logical}] {resource['Type']}: {told}") from failed
    except Exception as error:
        raise Failed(f"[{logical}] {resource['Type']}: {type(error).__name__}: {error}") from error
    made.cf_resource_type, made.logical_resource_id = resource["Type"], logical
    made.retained = resource.get("DeletionPolicy") in ("Retain", "RetainExceptOnCreate")
    return made


def load_lists(resources):
    """Defaults that are lists, which moto leaves as texts; and whether each parameter may have its value."""
    slots = resources._template.get("Parameters") or {}
    unknown = set(resources.input_parameters) - set(slots)
    if unknown:
        raise ValidationError(message=f"Parameters: [{', '.join(sorted(unknown))}] do not exist in the template")
    for name, slot in slots.items():
        value = resources.resolved_parameters[name]
        if isinstance(value, str) and slot["Type"].startswith(("CommaDelimitedList", "List<")):
            value = value.split(",") if value else []
            resources.resolved_parameters[name] = resources._parsed_resources[name] = value
        for one in value if isinstance(value, list) else [value]:
            judge(name, slot, one)


def judge(name, slot, value):
    """Whether a parameter may have this value, as CloudFormation asks before anything is made."""
    allowed, pattern, number = slot.get("AllowedValues"), slot.get("AllowedPattern"), slot["Type"] == "Number"
    if allowed and str(value) not in map(str, allowed):
        raise ValidationError(message=f"Parameter '{name}' must be one of AllowedValues")
    if pattern and not re.fullmatch(pattern, str(value)):
        raise ValidationError(message=f"Parameter '{name}' must match pattern {pattern}")
    if number and not float(slot.get("MinValue", "-inf")) <= float(value) <= float(slot.get("MaxValue", "inf")):
        raise ValidationError(message=f"Parameter '{name}' must be within its bounds")
    if not number and not int(slot.get("MinLength", 0)) <= len(str(value)) <= int(slot.get("MaxLength", 2**31)):
        raise ValidationError(message=f"Parameter '{name}' has a length that is not allowed")


def exports(outputs):
    """moto's own looks at no conditions."""
    resources, found = outputs._resource_map, []
    for value in (outputs._output_json_map or {}).values():
        if "Export" in value and ("Condition" not in value or resources.lazy_condition_map[value["Condition"]]):
            name, told = (parsing.clean_json(part, resources) for part in (value["Export"]["Name"], value["Value"]))
            found.append(parsing.Export(outputs._stack_id, name, told))
    return found


def create_resources(stack):
    stack.status, stack.description = "CREATE_IN_PROGRESS", stack.template_dict.get("Description")
    if not attempt(stack, lambda: stack.resource_map.create(stack.template_dict)):
        for made in reversed(made_by(stack)):
            made.delete()
        stack.status = "ROLLBACK_COMPLETE"
        return
    export(stack)
    stack.mark_creation_complete()


def attempt(stack, work):
    """Whether it went well, and all outputs can be told. The reason why not is told as CloudFormation does."""
    try:
        work()
        list(stack.output_map.values())
        return True
    except Failed as failed:
        reason = failed.message
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    stack.stack_status_reason = reason
    stack._add_stack_event(stack.status.replace("IN_PROGRESS", "FAILED"), reason)
    stack.template_dict = {**stack.template_dict, "Outputs": {}}
    stack.output_map = stack._create_output_map()
    return False


def export(stack):
    known = models.cloudformation_backends[stack.account_id][stack.region_name].exports
    for one in stack.output_map.exports:
        if one.name in known and known[one.name].exporting_stack_id != stack.stack_id:
            raise ValidationError(stack.stack_id, message=f"Export with name {one.name} is already exported")
        known[one.name] = one


def made_by(stack):
    """What the stack has, in the order in which it was made."""
    return [made for made in stack.resource_map._parsed_resources.values() if hasattr(made, "logical_resource_id")]


def update(stack, template, role_arn=None, parameters=None, tags=None):
    before, had = stack.resource_map, (stack.template, stack.parameters)
    stack.template, stack.parameters = template, stack.parameters if parameters is None else parameters
    stack._parse_template()
    try:
        stack.resource_map = stack._create_resource_map()
    except Exception:  # refused, as if it had not been asked for
        stack.template, stack.parameters = had
        stack._parse_template()
        raise
    stack.status = "UPDATE_IN_PROGRESS"
    stack._add_stack_event("UPDATE_IN_PROGRESS", resource_status_reason="User Initiated")
    stack.resource_map.before = {made.logical_resource_id: made for made in before._parsed_resources.values()
                                 if hasattr(made, "logical_resource_id")}
    stack.output_map = stack._create_output_map()

    def change():
        stack.resource_map.create(stack.template_dict)
        left = [made for made in stack.resource_map.before.values() if not made.retained]
        for made in reversed([*left, *stack.resource_map.replaced]):
            made.delete()

    if attempt(stack, change):
        export(stack)
        stack.status = "UPDATE_COMPLETE"
        stack._add_stack_event("UPDATE_COMPLETE")
    else:  # AWS would go back; here it stays as it came, to be looked at
        stack.status = "UPDATE_FAILED"


def previous(_, instance, incoming_params):
    """The parameters of an update; a previous value may also be a default."""
    had = getattr(instance, "resource_map", None)
    had = {name: ",".join(value) if isinstance(value, list) else str(value)
           for name, value in had.resolved_parameters.items()} if had else instance.parameters
    return {one["ParameterKey"]: one["ParameterValue"] if "ParameterValue" in one else had[one["ParameterKey"]]
            for one in incoming_params}


def delete(stack):
    stack._add_stack_event("DELETE_IN_PROGRESS", resource_status_reason="User Initiated")
    for made in reversed(made_by(stack)):
        if not made.retained:
            made.delete()
    stack._add_stack_event("DELETE_COMPLETE")
    stack.status = "DELETE_COMPLETE"
