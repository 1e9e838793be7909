"""What an LA costs a month: asleep, typical and always on; in a network of its own and in the shared one.

Sizes and numbers of things are the templates' own, prices those of deploy/config/hub.toml and prices.toml; how much is used is
written down below, with where it comes from. It is an estimate, and the bill is what counts. Asleep in the shared network at
most 12 USD: that is what is promised, and what fails here if it is not kept.

    python -m checks.cost [--set Parameter=value ...] [--las N] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from .estate import Estate
from .reach import ESTATES
from .template import HERE, Template, load

PROMISED = 12.00  # USD, asleep in the shared network
LAS = 20  # that share the core's endpoints; a region has 10 to 40
MONTH = 730.0
LOOKS = MONTH / 24  # power.longest_sleep: once a day it is looked
LOOK_HOURS = 0.1  # a wake of 2 min, a look, quiet of 30 s, and putting to sleep again


class Use(NamedTuple):
    """How much of what grows with use. Hours awake: tests/load/README.md, "What a platform costs"."""

    name: str
    awake: float
    naps: float
    """How often the database falls asleep: each time it is paid for until it does."""
    run_hours: float
    """Of tasks with 1 vCPU and 4 GiB: 148 runs of a quarter of an hour, as in the simulation's months."""
    stored: float
    requests: float
    logged: float
    passed: float
    """GiB through endpoints; layers of images and the LA's files go by S3's own, which costs nothing."""


USES = [
    Use("asleep", LOOKS * LOOK_HOURS, LOOKS, 0, 10, 20_000, 0.2, 1),
    Use("typical", 51.2, 120, 37, 10, 100_000, 1.5, 5),
    Use("always on", MONTH, 0, 37, 10, 100_000, 4, 15),
]


class Line(NamedTuple):
    what: str
    amount: float
    unit: str
    price: float

    @property
    def sum(self) -> float:
        return self.amount * self.price


def prices() -> dict[str, Any]:
    """Both lists as one. The hub's stands behind marks in its example, as the one that is built in."""
    block = re.search(r"^#: \[\[costs\.prices\]\]\n((?:#: .*\n)+)", (HERE / "config/hub.toml").read_text(), re.MULTILINE)
    if not block:
        raise SystemExit("deploy/config/hub.toml has no [[costs.prices]] behind its marks (#:); the cost sheet goes by it")
    hub = tomllib.loads(re.sub(r"(?m)^#: ", "", block[1]))
    more = tomllib.loads(Path(__file__).with_name("prices.toml").read_text())
    for key in ("region", "currency"):
        if hub[key] != more[key]:
            raise SystemExit(f"prices.toml is for {key} {more[key]}, and deploy/config/hub.toml for {hub[key]}; they have to be the same")
    oldest = min(hub["dated"], more["dated"])
    return {**more, **hub, "dated": oldest}


def number(estate: Estate, kind: str) -> int:
    return sum(1 for _ in estate.resources(kind))


def endpoints(estate: Estate, only: str = "") -> int:
    """Interface endpoints, each as often as it stands in a zone."""
    return sum(len(properties["SubnetIds"]) for name, properties in estate.resources("AWS::EC2::VPCEndpoint")
               if properties.get("VpcEndpointType") == "Interface" and name.startswith(only))


def sizes(estate: Estate) -> dict[str, tuple[float, float, bool]]:
    """vCPUs and GiB of each task that runs all the time or while awake, and whether it is of ARM."""
    found = {}
    for name, task in estate.resources("AWS::ECS::TaskDefinition"):
        arm = task["RuntimePlatform"]["CpuArchitecture"] == "ARM64"
        found[name.rpartition("#")[2]] = (int(task["Cpu"]) / 1024, int(task["Memory"]) / 1024, arm)
    return found


def sheet(estate: Estate, use: Use, shared: float, las: int, p: dict[str, Any]) -> list[Line]:
    """`shared` endpoints are paid for by so many LAs."""
    tasks = sizes(estate)
    vcpu, gib, _ = tasks["Task"]
    spot = next(service["CapacityProviderStrategy"][0]["CapacityProvider"] == "FARGATE_SPOT"
                for name, service in estate.resources("AWS::ECS::Service") if name.startswith("child/agent"))
    rate = (p["spot_vcpu_hour"] / p["vcpu_hour"]) if spot else 1.0
    lines = [Line(f"agent, {'Spot' if spot else 'on demand'}, ARM", MONTH, "h", rate * (vcpu * p["arm_vcpu_hour"] + gib * p["arm_gib_hour"]))]
    awake = 0.0
    for name in ("WebserverTask", "DaemonTask", "CodeServerTask"):
        vcpu, gib, arm = tasks[name]
        kind = "arm_" if arm else ""
        awake += vcpu * p[f"{kind}vcpu_hour"] + gib * p[f"{kind}gib_hour"]
    lines.append(Line("page, daemon, code server while awake", use.awake, "h", awake))
    lines.append(Line("runs of 1 vCPU and 4 GiB", use.run_hours, "h", p["vcpu_hour"] + 4 * p["gib_hour"]))
    lines += database(estate, use, p)
    lines += [
        Line("buckets", use.stored, "GiB", p["stored_gib_month"]),
        Line("requests to buckets", use.requests / 1000, "1,000", p["requests_1000"]),
        Line("key of the LA", number(estate, "AWS::KMS::Key"), "", p["kms_key_month"]),
        Line("requests to the key", 1, "10,000", p["kms_requests_10000"]),
        Line("secret of the database", number(estate, "AWS::SecretsManager::Secret"), "", p["secret_month"]),
        Line("alarms", number(estate, "AWS::CloudWatch::Alarm"), "", p["alarm_month"]),
        Line("journal on EFS", 0.1, "GiB", p["efs_gib_month"]),
        Line("lines logged", use.logged, "GiB", p["log_gib"]),
        Line("lines kept, three months", 3 * use.logged, "GiB", p["log_stored_gib_month"]),
        Line("queue, asked every 20 s", MONTH * 180 / 1e6, "million", p["sqs_requests_million"]),
        Line("load and sizes read, hourly", 8, "1,000", p["metrics_read_1000"]),
    ]
    own = endpoints(estate)
    if own:
        lines.append(Line("endpoints of its own", own * MONTH, "h", p["endpoint_hour"]))
    else:
        lines.append(Line(f"share of {shared:g} endpoints of {las} LAs", shared / las * MONTH, "h", p["endpoint_hour"]))
    lines.append(Line("through endpoints", use.passed, "GiB", p["endpoint_gib"]))
    balancers = number(estate, "AWS::ElasticLoadBalancingV2::LoadBalancer")
    return [*lines, *([Line("load balancer", balancers * MONTH, "h", p["balancer_hour"])] if balancers else [])]


def database(estate: Estate, use: Use, p: dict[str, Any]) -> list[Line]:
    clusters = [cluster for _, cluster in estate.resources("AWS::RDS::DBCluster")]
    if not clusters:
        stored = next(int(one["AllocatedStorage"]) for _, one in estate.resources("AWS::RDS::DBInstance"))
        return [Line("database, a plain instance", MONTH, "h", p["instance_hour"]),
                Line("its storage", stored, "GiB", p["instance_stored_gib_month"])]
    scaling = clusters[0]["ServerlessV2ScalingConfiguration"]
    least = float(scaling["MinCapacity"])
    # Awake it takes half an ACU, the least that it can; asleep its least, which is nothing where it pauses.
    up = min(MONTH, use.awake + use.naps * float(scaling["SecondsUntilAutoPause"]) / 3600)
    acus = up * max(0.5, least) + (MONTH - up) * least
    return [Line("database, by capacity", acus, "ACU h", p["acu_hour"]), Line("its storage, the least", 10, "GiB", p["aurora_stored_gib_month"]),
            Line("its requests", use.awake * 0.01, "million", p["aurora_requests_million"])]


def estates(templates: list[Template], given: dict[str, str]) -> dict[str, Estate]:
    by_name = {template.name: template for template in templates}
    known = {name for template in templates if template.name.startswith("child/") for name in template.parameters}
    for name in given.keys() - known:
        raise SystemExit(f"no template of an LA has the parameter {name}; there are {', '.join(sorted(known))}")
    return {name: Estate([by_name[one] for one in ESTATES[name][0]], ESTATES[name][1] | given) for name in ("own", "shared")}


def core_endpoints(templates: list[Template]) -> tuple[int, int]:
    """Those that the core account has for LAs alone, and those that the hub has for itself, which LAs use as well."""
    by_name = {template.name: template for template in templates}
    stacks, given = ESTATES["core-shared"]
    core = Estate([by_name[one] for one in stacks], given)
    return endpoints(core, "core/shared.yaml"), endpoints(core, "core/network.yaml")


def enough(asleep: float, shared: float, las: int, price: float) -> int:
    """From how many LAs on the promise is kept; 0 where no number is enough."""
    rest = PROMISED - (asleep - shared / las * MONTH * price)
    return math.ceil(shared * MONTH * price / rest) if rest > 0 else 0


def main(arguments: list[str], templates: list[Template]) -> int:
    parser = argparse.ArgumentParser(description="What an LA costs a month.")
    parser.add_argument("--set", action="append", default=[], metavar="Parameter=value", help="a parameter of the templates")
    parser.add_argument("--las", type=int, default=LAS, help="LAs that share the core's endpoints (%(default)s)")
    parser.add_argument("--json", action="store_true", help="one document, for programs")
    options = parser.parse_args(arguments)
    if options.las < 1:
        parser.error("--las is 1 or more")
    for one in options.set:
        if "=" not in one:
            parser.error(f"--set {one}: write Parameter=value")
    given = dict(one.split("=", 1) for one in options.set)
    p = prices()
    shared, of_hub = core_endpoints(templates)

    def costs_with(more: dict[str, str]) -> dict[tuple[str, str], list[Line]]:
        return {(name, use.name): sheet(estate, use, shared, options.las, p)
                for name, estate in estates(templates, given | more).items() for use in USES}

    costs = costs_with({})
    sums = {key: sum(line.sum for line in lines) for key, lines in costs.items()}
    if options.json:
        months = [{"network": network, "use": use, "sum": round(sums[network, use], 2),
                   "lines": [{**line._asdict(), "sum": round(line.sum, 4)} for line in lines]} for (network, use), lines in costs.items()]
        told = {key: p[key] for key in ("region", "currency", "dated", "source")}
        print(json.dumps({**told, "las": options.las, "months": months}))
    else:
        tell(costs, sums, p)
        on_demand = sum(line.sum for line in costs_with({"Capacity": "FARGATE"})["shared", "asleep"])
        print(f"\nWith the agent on demand in place of Spot an LA asleep in the shared network costs {on_demand:.2f}. The {of_hub} endpoints that "
              f"the hub has for\nitself, which LAs in its network use as well, are the core account's and not shared out here: that would be "
              f"{of_hub / options.las * MONTH * p['endpoint_hour']:.2f} more.")
    asleep = sums["shared", "asleep"]
    least = enough(asleep, shared, options.las, p["endpoint_hour"])
    from_then = f"from {least} LAs on" if least else "with no number of LAs"
    told_last = f"Asleep in the shared network: {asleep:.2f} {p['currency']} with {options.las} LAs; at most {PROMISED:.2f} {from_then}."
    print(told_last, file=sys.stderr if options.json else sys.stdout)
    if asleep > PROMISED:
        print(f"cost: that is more than the {PROMISED:.2f} that are promised; the largest lines above say where it goes", file=sys.stderr)
        return 1
    return 0


def tell(costs: dict[tuple[str, str], list[Line]], sums: dict[tuple[str, str], float], p: dict[str, Any]) -> None:
    print(f"Prices of {p['region']} in {p['currency']}, dated {p['dated']}: {p['source']}.")
    print("An estimate: traffic between zones, what people upload beyond 10 GiB, and the core account's own are not in it.")
    columns = [use.name for use in USES]
    for network in ("shared", "own"):
        print(f"\n{f'Network: {network}':40}{'price':>10}" + "".join(name.rjust(28) for name in columns))
        for rows in zip(*(costs[network, name] for name in columns)):
            amounts = "".join(f"{line.amount:11,.2f} {line.unit:8}{line.sum:8.2f}" for line in rows)
            print(f"{rows[0].what:40}{rows[0].price:10.5f}{amounts}")
        print("sum".ljust(50) + "".join(f"{sums[network, name]:28.2f}" for name in columns))
    more = sums["own", "asleep"] - sums["shared", "asleep"]
    print(f"\nA network of its own costs {more:.2f} more: each endpoint is paid for by the hour, whether anything passes or not,"
          "\nand no other LA shares it. What it buys is that no other account has a foot in the LA's network.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], load()))
