"""What both sides do before a short time is taken."""

import time

AWAKE = 0.02  # seconds


def wake_up(work):
    """Repeats the work until threads that slept take part in it: a thread that wakes up on the
    processor of the one that calls it needs some milliseconds to get another."""
    end = time.perf_counter() + AWAKE
    work()
    while time.perf_counter() < end:
        work()
