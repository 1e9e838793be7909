"""The images, as far as they can be shown without a Docker engine: the Dockerfile is linted and its final stages are held
to a few rules, the build's context has all that the build reads, the root file systems that they ship are assembled by
the same script and hold nothing else than what is listed here, and the programs work in them (image_run.py).

Run by deploy/check; needs root, the programs in target/debug, and hadolint and syft beside this Python.
"""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
DOCKER = TREE / "deploy/docker"
TOOLS = Path(sys.executable).parent
BUILT = TREE / "target/debug"
WORK = TREE / "target/images"
IMAGES = ("agent", "hub")
USER = 10001
# Read by tests/run, whose build lints as well; the image's does not.
LINTS = ".clippy.toml"

# What an image may hold beside its program. A library that is new here is a decision and no accident.
SHIPPED = [
    r"lib(64)?/ld-linux-[a-z0-9-]+\.so\.\d",
    r"lib/[a-z0-9_]+-linux-gnu/lib(c\.so\.6|m\.so\.6|gcc_s\.so\.1)",
    r"etc/(passwd|group|os-release|ssl/certs/ca-certificates\.crt)",
    r"var/lib/dpkg/status\.d/(ca-certificates|libc6|libgcc-s1)",
    r"usr/share/doc/(ca-certificates|libc6|libgcc-s1)/copyright",
]
LABELS = {"title", "description", "licenses", "version", "revision", "created"}


class Wrong(Exception):
    """What does not hold, in words for whoever has to mend it."""


def demand(holds, message):
    if not holds:
        raise Wrong(message)


def instructions(text):
    """The Dockerfile's instructions as (word, arguments), comments left out and continued lines joined."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            yield word.upper(), rest.strip()


def stages(text):
    """Each stage's name, base and instructions."""
    found = {}
    for word, rest in instructions(text):
        if word == "FROM":
            named = re.fullmatch(r"(?:--platform=\S+ )?(\S+) AS (\S+)", rest)
            demand(named, f"Dockerfile: a stage without a name: FROM {rest}")
            current = found[named[2]] = {"base": named[1], "does": []}
        elif found:
            current["does"].append((word, rest))
    return found


def final_stage(name, stage):
    """Holds a final stage to its rules; returns what a container of it is started with."""
    does = stage["does"]
    demand(stage["base"] == "scratch", f"Dockerfile: {name} is built on {stage['base']} and not on scratch")
    foreign = {word for word, _ in does} - {"ARG", "LABEL", "COPY", "ENV", "USER", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    demand(not foreign, f"Dockerfile: {name} has {', '.join(sorted(foreign))}; what it does is shown for none of these")
    copies = [rest for word, rest in does if word == "COPY"]
    demand(copies == [f"--from=build /roots/{name}/ /"],
           f"Dockerfile: {name} has to copy its root from deploy/docker/rootfs and nothing else, and copies {copies}")
    users = [rest for word, rest in does if word == "USER"]
    demand(users == [f"{USER}:{USER}"], f"Dockerfile: {name} runs as {users}, and the data folder is of {USER}")
    demand([rest for word, rest in does if word == "HEALTHCHECK"] == ["NONE"], f"Dockerfile: {name} has a health check")
    labels = set(re.findall(r"org\.opencontainers\.image\.([a-z]+)=", " ".join(rest for word, rest in does if word == "LABEL")))
    demand(labels == LABELS, f"Dockerfile: {name} has the labels {sorted(labels)} and not {sorted(LABELS)}")
    start = [json.loads(rest) for word, rest in does if word in ("ENTRYPOINT", "CMD")]
    demand(start == [[f"/usr/bin/sfdata-{name}"], ["run"]], f"Dockerfile: {name} starts as {start}")
    return dict(rest.split("=", 1) for word, rest in does if word == "ENV")


def dockerfile():
    subprocess.run([TOOLS / "hadolint", "--failure-threshold", "style", DOCKER / "Dockerfile"], check=True)
    text = (DOCKER / "Dockerfile").read_text()
    found = stages(text)
    demand(set(found) == {"build", *IMAGES}, f"Dockerfile: its stages are {sorted(found)}")
    build = " ".join(rest for word, rest in found["build"]["does"] if word == "RUN")
    demand('deploy/docker/rootfs "$program"' in build, "Dockerfile: roots are not made by deploy/docker/rootfs")
    demand("cargo auditable build" in build and "--locked" in build,
           "Dockerfile: without cargo auditable the SBOM would know of no crate, and without --locked of other ones")
    declared = re.search(r'^rust-version = "([\d.]+)"$', (TREE / "Cargo.toml").read_text(), re.MULTILINE)[1]
    used = re.search(r"^ARG RUST_IMAGE=rust:([\d.]+)-", text, re.MULTILINE)[1]
    demand(used.startswith(declared), f"Dockerfile: Rust {used}, where Cargo.toml names {declared}")
    return {name: final_stage(name, found[name]) for name in IMAGES}


def context():
    """All that the build reads is in its context: what the compiler read for the two programs, and each member's manifest."""
    rules = [line for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines() if line and line[0] != "#"]
    kept = [line[1:] for line in rules if line.startswith("!")]
    left = [line.removeprefix("**/") for line in rules if line.startswith("**/")]
    demand(rules[:1] == ["*"] and len(rules) == 1 + len(kept) + len(left),
           "Dockerfile.dockerignore: more than '*', '!path' and '**/name', which is all that is understood here")

    def inside(path):
        named = any(path == Path(name) or Path(name) in path.parents for name in kept)
        return named and not set(path.parts) & set(left)

    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=TREE, check=True, stdout=subprocess.PIPE, text=True).stdout
    tracked = [Path(name) for name in tracked.split("\0") if name]
    for name in kept:
        demand((TREE / name).exists(), f"Dockerfile.dockerignore: there is no {name}")
    needed = {path for path in tracked if path.name == "Cargo.toml"} | {Path("Cargo.lock"), Path("deploy/docker/rootfs")}
    for name in IMAGES:
        # make's syntax: the program, a colon, and each file that went into it.
        for word in (BUILT / f"sfdata-{name}.d").read_text().replace("\\ ", "\0").split()[1:]:
            path = Path(os.path.normpath(word.replace("\0", " ")))
            if path.is_relative_to(TREE) and path.name != LINTS:
                needed.add(path.relative_to(TREE))
    demand(Path("agent/src/main.rs") in needed, f"{BUILT}/sfdata-agent.d names no file of this tree: build it here")
    missing = sorted(str(path) for path in needed if not inside(path) and path.parts[0] != "target")
    demand(not missing, f"Dockerfile.dockerignore: the build reads what it leaves out: {', '.join(missing)}")
    kept_files = {path for path in tracked if inside(path)}
    secret = sorted(str(path) for path in kept_files if path.suffix in (".key", ".pem", ".env"))
    demand(not secret, f"Dockerfile.dockerignore: keys would get into the context: {', '.join(secret)}")


def root(name):
    """Assembles one image's root and holds it to what is listed; returns its folder."""
    binary, folder = BUILT / f"sfdata-{name}", WORK / name / "root"
    subprocess.run([DOCKER / "rootfs", name, binary, folder], check=True)
    allowed = [*SHIPPED, rf"usr/bin/sfdata-{name}"]
    data = folder / f"var/lib/sfdata-{name}"
    for path in [folder, *folder.rglob("*")]:
        inner, is_at = str(path.relative_to(folder)), path.lstat()
        demand(stat.S_ISDIR(is_at.st_mode) or stat.S_ISREG(is_at.st_mode), f"{name}: {inner} is neither file nor folder")
        if path.is_file():
            demand(any(re.fullmatch(pattern, inner) for pattern in allowed), f"{name}: {inner} is in the image, and not listed")
        demand(not is_at.st_mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWGRP | stat.S_IWOTH),
               f"{name}: {inner} has mode {stat.filemode(is_at.st_mode)}")
        owner, mode = (USER, 0o700) if path == data else (0, None)
        demand(is_at.st_uid == owner and mode in (None, stat.S_IMODE(is_at.st_mode)),
               f"{name}: {inner} is of {is_at.st_uid} with mode {stat.filemode(is_at.st_mode)}")
    demand(data.is_dir(), f"{name}: there is no {data.relative_to(folder)}")
    told = json.loads(subprocess.run([TOOLS / "syft", "--quiet", "scan", f"dir:{folder}", "--output", "cyclonedx-json"],
                                     check=True, stdout=subprocess.PIPE, env=os.environ | {"SYFT_CHECK_FOR_APP_UPDATE": "false"}).stdout)
    packages = {part["name"] for part in told["components"] if part.get("purl", "").startswith("pkg:deb/debian/")}
    demand(packages >= {"ca-certificates", "libc6", "libgcc-s1"}, f"{name}: a scanner finds only the packages {sorted(packages)}")
    return folder


def main():
    demand(os.getuid() == 0, "the images' roots have to be made and entered by root: run this as root")
    for name in ("sfdata-agent", "sfdata-hub", "hubctl"):
        demand((BUILT / name).exists(), f"target/debug/{name} is missing: cargo build --workspace --bins")
    shutil.rmtree(WORK, ignore_errors=True)
    environments = dockerfile()
    context()
    told = {name: {"root": str(root(name)), "variables": environments[name]} for name in IMAGES}
    inside = ["unshare", "--mount", "--net", sys.executable, "-m", "checks.image_run", json.dumps(told)]
    subprocess.run(inside, cwd=TREE / "deploy", check=True)
    print("images: what they are made of, and hub and agent in them: as they should be")


if __name__ == "__main__":
    try:
        main()
    except (Wrong, subprocess.CalledProcessError) as wrong:
        sys.exit(f"images: {wrong}")
