"""What deploy/docker/build asks of Docker and of ECR, shown with programs that write down how they were called: a real engine
is on no machine that runs the tests. It can't show that an image builds; it shows that nothing is pushed that no commit
tells, that both architectures, SBOM and provenance are asked for, and that what is there is not built again.

Run by deploy/check; needs git.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
REGISTRY = "111111111111.dkr.ecr.eu-west-2.amazonaws.com"
BUILT, THERE = "sha256:" + "a" * 64, "sha256:" + "b" * 64

DOCKER = f"""#!/bin/sh
echo "docker $*" >>"$CALLS"
[ "$1 $2" != "buildx inspect" ] || exit 1
while [ $# -gt 0 ]; do
    [ "$1" != --metadata-file ] || printf '{{\\n  "containerimage.digest": "{BUILT}"\\n}}\\n' >"$2"
    shift
done
"""
AWS = """#!/bin/sh
echo "aws $*" >>"$CALLS"
[ "$2" = describe-images ] || exit 0
[ -z "$ECR_DIGEST" ] || { echo "$ECR_DIGEST"; exit 0; }
echo "An error occurred ($ECR_ERROR) when calling the DescribeImages operation" >&2
exit 254
"""


def demand(holds, message):
    if not holds:
        sys.exit(f"deploy/docker/build: {message}")


class Place:
    """A repository with one commit, and the two programs."""

    def __init__(self, folder):
        self.tree, self.bin, self.calls = folder / "tree", folder / "bin", folder / "calls"
        (self.tree / "deploy/docker").mkdir(parents=True)
        self.bin.mkdir()
        (self.tree / "Cargo.toml").write_text('[workspace.package]\nversion = "1.2.3"\n')
        (self.tree / "deploy/docker/build").write_bytes((TREE / "deploy/docker/build").read_bytes())
        for name, script in (("docker", DOCKER), ("aws", AWS)):
            (self.bin / name).write_text(script)
            (self.bin / name).chmod(0o755)
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"]
        for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "all"]):
            subprocess.run(["git", *arguments], cwd=self.tree, check=True)
        self.commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=self.tree, check=True, stdout=subprocess.PIPE,
                                     text=True).stdout.strip()

    def build(self, argument=f"{REGISTRY}/sfdata", digest="", error="ImageNotFoundException"):
        """Exit code, what it printed, what it said, and the calls that it made."""
        self.calls.write_text("")
        variables = {"PATH": f"{self.bin}:{os.environ['PATH']}", "HOME": str(self.tree.parent), "CALLS": str(self.calls),
                     "ECR_DIGEST": digest, "ECR_ERROR": error}
        done = subprocess.run(["bash", "deploy/docker/build", argument], cwd=self.tree, env=variables, capture_output=True, text=True)
        return done.returncode, done.stdout.splitlines(), done.stderr, self.calls.read_text().splitlines()


def builds(calls):
    return [call for call in calls if call.startswith("docker buildx build")]


def main():
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))

        code, printed, said, calls = place.build()
        demand(code == 0, f"exit code {code}: {said}")
        demand(printed == [f"{name} {REGISTRY}/sfdata/{name}@{BUILT}" for name in ("agent", "hub")], f"prints {printed}")
        demand(len(builds(calls)) == 2, f"builds {len(builds(calls))} images")
        for name, call in zip(("agent", "hub"), builds(calls), strict=True):
            tag = f"{REGISTRY}/sfdata/{name}:1.2.3-{place.commit[:12]}"
            for wanted in (f"--target {name}", "--platform linux/amd64,linux/arm64", "--sbom=true", "--provenance=mode=max",
                           "--push", f"--tag {tag}", "VERSION=1.2.3", f"REVISION={place.commit}"):
                demand(wanted in call, f"builds {name} without {wanted}: {call}")

        code, printed, said, calls = place.build(digest=THERE)
        demand(code == 0 and not builds(calls), f"builds again what ECR has: {calls} {said}")
        demand(printed == [f"{name} {REGISTRY}/sfdata/{name}@{THERE}" for name in ("agent", "hub")], f"prints {printed}")

        code, _, said, calls = place.build(error="RepositoryNotFoundException")
        demand(code == 1 and not builds(calls) and "RepositoryNotFound" in said, f"goes on without a repository: {calls} {said}")

        code, _, said, calls = place.build("example.org/sfdata")
        demand(code == 1 and not builds(calls) and "no ECR registry" in said, f"pushes to another registry: {calls} {said}")

        code, _, said, calls = place.build("--check")
        demand(code == 0 and len(builds(calls)) == 2 and not any("--push" in call or call.startswith("aws") for call in calls),
               f"--check pushes or asks AWS, or does not build: {calls} {said}")

        (place.tree / "Cargo.toml").write_text('[workspace.package]\nversion = "1.2.4"\n')
        code, _, said, calls = place.build()
        demand(code == 1 and not builds(calls) and "not committed" in said, f"builds what is not committed: {calls} {said}")
    print("deploy/docker/build: asks for what it should, and for nothing that no commit tells")


if __name__ == "__main__":
    main()
