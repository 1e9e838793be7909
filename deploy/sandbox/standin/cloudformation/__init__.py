"""CloudFormation as AWS does it: each resource of a template is a call of the service that it belongs to.

moto makes about a hundred types, drops what it does not know of their properties, and reports a type that it does not
know as complete. Here moto keeps the stacks, parameters, references and outputs; every resource is made by a handler
of `access`, `compute`, `data`, `network`, `stackset` or `watch`, through the stand-in's own API. Invariants: what no handler is
there for, and a property that none takes, fails the stack, with the reason in its events; a stack that fails takes away
what it had made; an update changes what differs after references are resolved, and nothing else.
"""

from . import access, compute, data, network, stackset, watch  # noqa: F401 (they enter their handlers)
from .api import Api  # noqa: F401
from .stack import install  # noqa: F401
