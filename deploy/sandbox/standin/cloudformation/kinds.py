"""Handlers: one function for each type of resource, which makes it and says how it is named, changed and taken away.

A handler takes `api`, the properties, and the name that CloudFormation would give; it gives a `Made`. A property that it
has not taken by then is one that would be dropped, and an error.
"""

from .api import Failed

KINDS = {}
REQUIRED = object()


class Properties:
    """Of one resource, each to be taken once."""

    def __init__(self, values):
        self.left = dict(values)

    def take(self, name, default=REQUIRED):
        if name not in self.left and default is REQUIRED:
            raise Failed(f"the property {name} is missing")
        return self.left.pop(name, default)

    def pick(self, *names):
        return {name: self.left.pop(name) for name in names if name in self.left}

    def rest(self):
        """All that is left, for a request that takes them by the same names."""
        left, self.left = self.left, {}
        return left

    def tags(self, key="Key", value="Value"):
        return [{key: tag["Key"], value: str(tag["Value"])} for tag in self.take("Tags", [])]

    def specifications(self, resource):
        """Tags as EC2 takes them."""
        tags = self.tags()
        return {"TagSpecifications": [{"ResourceType": resource, "Tags": tags}]} if tags else {}


class Made:
    """A resource of a stack. `attributes` are what GetAtt gives, and may be functions; `undo` takes it away; `change` is
    given new properties and gives what the resource is then. Without it a change replaces the resource."""

    def __init__(self, id, attributes=None, undo=None, change=None):
        self.physical_resource_id, self.attributes, self.undo, self.change = str(id), attributes or {}, undo, change
        self.kind = self.properties = None

    def get_cfn_attribute(self, name):
        if name not in self.attributes:
            raise Failed(f"the stand-in has no attribute {name} of {self.kind.type}")
        found = self.attributes[name]
        return found() if callable(found) else found

    def is_created(self):
        return True

    def delete(self):
        if self.undo:
            self.undo()


class Kind:
    def __init__(self, type, handler):
        self.type, self.handler = type, handler

    def has_cfn_attr(self, _):
        return True  # what it is not, is told when it is asked for

    def become(self, before, replaced, given, api, name):
        """What there was `before`, where it is as given; or it changed, or another in its place."""
        if before and before.kind is self and before.properties == given:
            return before
        changes = before and before.kind is self and before.change
        properties = Properties(given)
        made = changes(properties) if changes else self.handler(api, properties, name)
        if properties.left:
            raise Failed(f"the stand-in does nothing with {', '.join(properties.left)}")
        if before and not changes:
            replaced.append(before)
        made.kind, made.properties = self, given
        return made


def kind(*types):
    def enter(handler):
        KINDS.update({type: Kind(type, handler) for type in types})
        return handler

    return enter
