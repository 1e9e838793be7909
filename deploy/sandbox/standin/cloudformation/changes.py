"""Change sets, by which `aws cloudformation deploy` loads its stacks: kept until they are executed, and then the same
creation or update as when a stack is made or changed at once.
"""

from moto.cloudformation import models, responses

NOTHING = "The submitted information didn't contain changes. Submit different information to create a change set."


def install():
    models.CloudFormationBackend.create_change_set = create
    models.CloudFormationBackend.execute_change_set = execute
    moto_create = responses.CloudFormationResponse.create_change_set

    def asked(call):
        call._validate_different_update = lambda *_: None  # a change set without changes is one that failed
        return moto_create(call)

    responses.CloudFormationResponse.create_change_set = asked


def create(backend, stack_name, change_set_name, template, parameters, description, change_set_type, notification_arns=None,
           tags=None, role_arn=None):
    models.validate_create_change_set(change_set_name)
    place = {"account_id": backend.account_id, "region_name": backend.region_name}
    parameters = {name: text(value) for name, value in parameters.items()}  # previous values come as they were resolved
    options = {"parameters": parameters, "notification_arns": notification_arns, "tags": tags, "role_arn": role_arn}
    if change_set_type == "UPDATE":
        stack = backend.get_stack(stack_name)
        had = {name: text(value) for name, value in stack.resource_map.resolved_parameters.items()}
        same = stack.has_template(template) and parameters.items() <= had.items()
    else:
        # With its template from the beginning, so that what is wrong with it or its parameters is told now.
        same, stack = False, models.Stack(stack_id=models.generate_stack_id(stack_name, *place.values()), name=stack_name,
                                          template=template, cross_stack_resources=backend.exports, **options, **place)
        stack.status = "REVIEW_IN_PROGRESS"
        backend.stacks[stack.stack_id] = stack
    id = models.generate_changeset_id(change_set_name, backend.region_name, backend.account_id)
    made = models.ChangeSet(change_set_type=change_set_type, change_set_id=id, change_set_name=change_set_name, stack=stack,
                            template=template, description=description, **options)
    made.status, made.execution_status = ("FAILED", "UNAVAILABLE") if same else ("CREATE_COMPLETE", "AVAILABLE")
    made.status_reason = NOTHING if same else None
    backend.change_sets[id] = made
    return id, stack.stack_id


def text(value):
    return ",".join(value) if isinstance(value, list) else str(value)


def execute(backend, change_set_name, stack_name=None):
    made = next(one for one in reversed(backend.change_sets.values())
                if change_set_name in (one.change_set_id, one.change_set_name) and stack_name in (None, one.stack_name, one.stack_id))
    if made.execution_status != "AVAILABLE":
        raise models.ValidationError(
            made.stack_id, message=f"ChangeSet [{made.change_set_id}] cannot be executed: {made.status_reason}")
    stack = backend.stacks[made.stack_id]
    if made.change_set_type == "CREATE":
        stack._add_stack_event("CREATE_IN_PROGRESS", resource_status_reason="User Initiated")
        stack.create_resources()
    else:
        stack.update(made.template, made.role_arn, made.parameters, made.tags)
    made.execution_status = "EXECUTE_COMPLETE"
