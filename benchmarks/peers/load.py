#!/usr/bin/env python3
"""Times loading of a checkpoint by this library against the package safetensors, which take turns.

The checkpoint has the shape of SmolLM2-135M, in bf16. The package leaves the file's bytes as they
are; this library puts the values where its products read them. The file is in the system's memory
after the first round, so the disk is not measured. What is missing is named, with the command that
brings it.
"""

import argparse
import os
import sys
import tempfile
import time

import turns
from alternate import ROOT, Program

OURS = "build/release/benchmarks/load_peer"
OUTPUT = "benchmarks/results/load_vs_safetensors.json"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ours", default=OURS)
    parser.add_argument("--one-core", action="store_true", help="both on one processor")
    turns.add_arguments(parser, OUTPUT)
    options = turns.parse(parser)
    try:
        import safetensors
        import torch
    except ImportError as fault:
        sys.exit(f"{fault.name} is missing: pip install safetensors torch numpy")
    if not os.path.exists(os.path.join(ROOT, options.ours)):
        sys.exit(f"{options.ours} is missing: cmake --build --preset release --target load_peer")
    load = turns.warn_of_load()
    if options.one_core:
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = os.path.join(folder, "checkpoint")
        ours = Program("ours", [os.path.join(ROOT, options.ours), checkpoint], {})
        if ours.ask("write")[0] != "written":
            ours.fail("wrote no checkpoint")
        path = os.path.join(checkpoint, "model.safetensors")
        size = os.path.getsize(path)

        def our_turn():
            return float(ours.ask("time")[0].split()[0])

        def their_turn():
            begin = time.perf_counter()
            with safetensors.safe_open(path, "pt") as file:
                for name in file.keys():
                    # A copy: the bytes themselves are mapped, and read only when they are touched.
                    file.get_tensor(name).clone()
            return time.perf_counter() - begin

        taken = turns.take(our_turn, their_turn, options)
        ours.stop()
    details = {
        "versions": {"safetensors": safetensors.__version__, "torch": torch.__version__},
        "commands": {"ours": f"{options.ours} FOLDER", "theirs": "get_tensor(name).clone()"},
        "processors": len(os.sched_getaffinity(0)),
    }
    turns.report("load_vs_safetensors", taken, size, load, options, details, OUTPUT)


if __name__ == "__main__":
    main()
