"""deploy/load: which stacks it loads and in which order, and what it makes of slips, before it calls anybody."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from . import template

DEPLOY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(DEPLOY / "terraform"))
import generate  # noqa: E402


def load(*arguments, path="/usr/bin:/bin"):
    return subprocess.run([DEPLOY / "load", *arguments], capture_output=True, text=True, env={"PATH": path}, cwd=DEPLOY)


class Load(unittest.TestCase):
    def told(self, text, *stacks, place="child"):
        """What it says of a file with this text; it finds no aws, which is the last that it looks for."""
        with tempfile.TemporaryDirectory() as folder:
            tools = Path(folder, "tools")
            tools.mkdir()
            for tool in ("awk", "bash", "cat", "dirname", "grep", "env"):
                (tools / tool).symlink_to(next(path for path in (Path("/usr/bin", tool), Path("/bin", tool)) if path.exists()))
            file = Path(folder, "one.params")
            file.write_text(text)
            done = load(place, str(file), *stacks, path=str(tools))
        self.assertEqual(done.returncode, 1, done)
        return done.stderr.strip()

    def test_stacks_and_their_order_are_those_of_terraform(self):
        for place, stacks in generate.ENVIRONMENTS.items():
            listed = load("--list", place).stdout.split()
            self.assertEqual(listed, [Path(name).stem for name in stacks])

    def test_a_parameter_that_no_template_has_is_refused_with_its_line(self):
        self.assertIn("line 3: no template of child has a parameter LaNam", self.told("# one\nLaName=camden\nLaNam=camden\n"))
        self.assertIn("line 2: LaName stands in an earlier line", self.told("LaName=camden\nLaName=barnet\n"))
        self.assertIn("line 1: no NAME=VALUE: LaName", self.told("LaName\n"))
        self.assertIn("line 1: there is no file", self.told("MoreToml=@nowhere.toml\n"))

    def test_every_parameter_of_every_template_is_known(self):
        for place, stacks in generate.ENVIRONMENTS.items():
            names = {name for stack in stacks for name in template.read((template.FOLDER / stack).read_text(), stack).parameters}
            self.assertIn("aws is missing", self.told("".join(f"{name}=x\n" for name in sorted(names)), place=place))

    def test_the_cores_own_agent_has_stacks_of_other_names_than_the_core(self):
        with tempfile.TemporaryDirectory() as folder:
            aws, asked, file = Path(folder, "aws"), Path(folder, "asked"), Path(folder, "one.params")
            aws.write_text(f'#!/bin/sh\ncase $1 in sts) echo 111111111111 ;; *) echo "$*" >>{asked} ;; esac\n')
            aws.chmod(0o755)
            for core, name in (("111111111111", "sfdata-la-network"), ("222222222222", "sfdata-network")):
                file.write_text(f"LaName=core\nCoreAccount={core}\n")
                done = load("child", str(file), "network", path=f"{folder}:/usr/bin:/bin")
                self.assertEqual(done.returncode, 0, done)
                self.assertIn(f"deploy --stack-name {name} ", asked.read_text())
                asked.unlink()

    def test_a_stack_that_there_is_not_is_refused_with_those_that_there_are(self):
        self.assertIn("no stack netwrk of child; there are: network", self.told("LaName=camden\n", "netwrk"))

    def test_a_file_that_is_not_there_is_told(self):
        done = load("child", "nowhere.params")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("no file nowhere.params", done.stderr)
