"""checkov over the CloudFormation templates: `python -m checks.scan`, with what checkov's command line takes.

checkov parses some 200 JSONPaths in a run, and its parser derives its tables from the grammar anew for each, which takes half of
the whole run. Here they are derived once.
"""

import functools
import sys

from checkov.main import Checkov
from ply import yacc

derive, parsers = yacc.yacc, {}


@functools.wraps(derive)
def derived(*arguments, module=None, **options):
    key = type(module)
    if module is None or key not in parsers:
        parsers[key] = derive(*arguments, module=module, **options)
    return parsers[key]


if __name__ == "__main__":
    yacc.yacc = derived
    sys.exit(Checkov().run())
