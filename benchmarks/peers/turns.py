"""Two ways to do the same take turns, and a record of what they took."""

import datetime
import json
import os
import platform
import statistics
import sys
import time

from alternate import ROOT, commit, processor


def add_arguments(parser, output):
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds before every turn")
    parser.add_argument("--commit", help="default: what git says")
    parser.add_argument("--mode", default="full", help="a word that is written to the output")
    parser.add_argument("--output", help=f"default: {output}")


def parse(parser):
    options = parser.parse_args()
    if options.rounds < 1 or options.warmup < 0:
        parser.error("--rounds is at least 1, --warmup at least 0")
    return options


def warn_of_load():
    load = os.getloadavg()
    if load[0] > 0.5:
        print(f"warning: load average {load[0]:.2f}; other work distorts it", file=sys.stderr)
    return load


def take(ours, theirs, options):
    """Seconds that each side reports, round by round; the order is swapped each time."""
    taken = {"ours": [], "theirs": []}
    sides = [("ours", ours), ("theirs", theirs)]
    for number in range(options.warmup + options.rounds):
        for name, turn in sides if number % 2 == 0 else reversed(sides):
            time.sleep(options.pause)
            seconds = turn()
            if number >= options.warmup:
                taken[name].append(seconds)
    return taken


def report(name, taken, size, load, options, details, default_output):
    """Prints megabytes per second of both and their ratio, and writes a record."""
    ratios = [b / a for a, b in zip(taken["ours"], taken["theirs"])]
    rates = {side: [size / each / 1e6 for each in all_] for side, all_ in taken.items()}
    print(f"ours   {statistics.median(rates['ours']):8.1f} MB/s")
    print(f"theirs {statistics.median(rates['theirs']):8.1f} MB/s")
    print(f"ratio  {statistics.median(ratios):8.2f} ({min(ratios):.2f} .. {max(ratios):.2f})")
    versions = {"ours": options.commit or commit(), **details.pop("versions")}
    record = {
        "benchmark": name,
        "mode": options.mode,
        "processor": processor(),
        "logical_processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load_average_at_start": [round(x, 2) for x in load],
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "versions": versions,
        **details,
        "bytes": size,
        "warmup_rounds": options.warmup,
        "rounds": options.rounds,
        "megabytes_per_second_ours": [round(each, 2) for each in rates["ours"]],
        "megabytes_per_second_theirs": [round(each, 2) for each in rates["theirs"]],
        "ratio_ours_over_theirs": {
            "median": round(statistics.median(ratios), 3),
            "min": round(min(ratios), 3),
            "max": round(max(ratios), 3),
        },
    }
    output = options.output or os.path.join(ROOT, default_output)
    os.makedirs(os.path.dirname(os.path.abspath(output)), exist_ok=True)
    with open(output, "w") as file:
        json.dump(record, file, indent=2)
        file.write("\n")
    print(f"\nwritten: {os.path.relpath(output)}")
