"""`deploy/sandbox/run --wakes N`: how long until a run is queued, by hand and by the product, N times each, in turn.

By hand is a script that knows the best order and starts the same processes past the product (`power.by_hand`), while the
agent is told to leave the platform alone; the product is woken by a file. What is printed is the median of either and of
the N ratios, each of a pair that was measured one right after the other: the machine's own speed drifts.
"""

import time
from statistics import median

from . import power, steps, talk
from .estate import HOSTED

CONTENT = "CHILD,PLACE  \n\n7,U1\n"


def take(walk, count):
    """The fleet, quietly; the pairs; their figures."""
    steps.start_quietly(walk, f"{count} pairs of wakes")
    walk.estate.manage_power()
    walk.until_state(HOSTED, "connected")
    power.until_asleep(walk)
    by_hand, by_file = [], []
    for number in range(1, count + 1):
        walk.hubctl("power", "settings", "--manual", *steps.NORTHSHIRE, "--reason", "by hand")
        by_hand.append(power.start_by_hand(walk))
        walk.hubctl("power", "settings", "--automatic", *steps.NORTHSHIRE, "--reason", "by the product")
        power.until_asleep(walk)
        by_file.append(arrive(walk, f"ssda903/wakes/{number}.csv"))
        power.until_asleep(walk)
        talk.say(f"pair {number} of {count}: by hand {by_hand[-1]:.2f} s, by a file {by_file[-1]:.2f} s")
    ratios = [file / hand for file, hand in zip(by_file, by_hand)]
    power.tell(walk, "by_hand_p50_s", median(by_hand))
    power.tell(walk, "arrival_to_queued_p50_s", median(by_file))
    power.tell(walk, "arrival_to_queued_ratio_p50", median(ratios), f"(at most {power.RATIO} is wanted)")
    power.tell(walk, "arrival_to_queued_ratio_min", min(ratios))
    power.tell(walk, "arrival_to_queued_ratio_max", max(ratios))


def arrive(walk, key):
    """Seconds from a file's arrival to its run's being queued, on a platform that sleeps."""
    put = time.time()
    walk.pipeline.put("data-store", key, CONTENT)
    return power.queued_run(walk, key)["creationTime"] - put
