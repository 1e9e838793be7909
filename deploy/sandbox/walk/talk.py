"""What a person sees. Colours only where somebody sees them and wants them (no-color.org)."""

import os
import shlex
import sys
import textwrap

COLOUR = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
WIDTH = 100


def style(code, text):
    return f"\033[{code}m{text}\033[0m" if COLOUR else text


def say(text="", end="\n"):
    print(text, end=end, flush=True)


def title(text):
    say("\n" + style("1", text))


def tell(text):
    say(textwrap.fill(" ".join(text.split()), WIDTH))


def done(text):
    say(style("32", text))


def complain(text):
    sys.stdout.flush()
    print(style("31", text) if sys.stderr.isatty() else text, file=sys.stderr, flush=True)


def command(program, arguments):
    """A command line that the reader could type, with tokens cut short."""
    line = " ".join(shlex.quote(shorten(str(argument))) for argument in (program, *arguments))
    say("\n" + style("36;1", "$ " + line))


def shorten(text):
    """Join tokens are secrets and 300 characters long."""
    return text[:14] + "..." if text.startswith("sfjoin_") else text
