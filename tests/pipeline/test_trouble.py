#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""G-13: launch lines of live video with elements in them that break, cut, drop, delay and repeat buffers, or fail: for
3 s each, with GLM4V_DEEP=1 for 60 s. Whatever they do, the line ends as it should, nothing is critical, and the results
that the bus has are those from 0 on, in order, each with a status."""
import concurrent.futures
import os
import re

from common import SLOW, check, gst_launch, main

SECONDS = 60 if os.environ.get("GLM4V_DEEP") else 3
AT_ONCE = 10
FRAMES = 30 * SECONDS
SOURCE = f"videotestsrc is-live=true pattern=ball num-buffers={FRAMES} ! video/x-raw,width=64,height=64,framerate=30/1"

# What is wrong: elements before glm4vdescribe, elements behind it, and whether the line ends with an error. With
# sanitizers such a line may end before the first answer is there, and the watchdog waits longer than a line of 3 s takes.
TROUBLE = {
    "broken bytes": ("breakmydata probability=0.05", "", False),
    "frames in pieces": ("chopmydata min-size=500 max-size=5000 step-size=100", "", False),
    "dropped frames": ("identity drop-probability=0.4", "", False),
    "an error before it": ("identity error-after=40", "", True),
    "an error behind it": ("", "identity error-after=40", True),
    "an early end": ("identity eos-after=45", "", False),
    "a network": ("netsim min-delay=0 max-delay=80 delay-probability=0.3 drop-probability=0.2 duplicate-probability=0.2 "
                  "allow-reordering=true", "", False),
    "a watchdog that is fed": ("", f"watchdog timeout={2500 * SLOW}", False),
    "slow sinks": ("queue leaky=downstream max-size-buffers=2", "identity sleep-time=50000", False),
    "errors that are ignored": ("", "errorignore ignore-error=true ignore-notnegotiated=true", False),
}
# How the element is used.
USE = {
    "async": "mode=async interval=200000000",
    "sync": "mode=sync interval=300000000 change-threshold=0.01",
    "verdicts": 'mode=async sample-mode=all deadline=500000000 output=choice choices="<good, bad>" fail-choices="<bad>" '
                'prompt="Choose one: good, bad." hysteresis=2 stats-interval=500000000',
}


def launch_line(before, behind, use):
    between = f"! {before} " if before else ""
    after = f"! {behind} " if behind else ""
    return (f"-m {SOURCE} {between}! glm4vdescribe name=d {use} {after}! fakesink "
            f"d.text ! queue ! fakesink async=false")


def check_results(output, wanted):
    results = [line for line in output.splitlines() if "glm4vdescribe-result" in line]
    ids = [int(re.search(r" id=\(guint64\)(\d+)", line).group(1)) for line in results]
    check(ids == list(range(len(ids))), "ids:", ids)
    check(ids or not wanted, "no result:", output[-2000:])
    for line in results:
        check(re.search(r" status=\(string\)(ok|unchanged|timeout|dropped|error),", line), line)


def run_line(name, use):
    before, behind, fails = TROUBLE[name]
    done = gst_launch(launch_line(before, behind, USE[use]), timeout=60 + 2 * SECONDS)
    check(done.returncode == (1 if fails else 0), f"{name}, {use}: exit status {done.returncode}", done.stdout[-1500:],
          done.stderr[-3000:])
    check("CRITICAL" not in done.stderr and "Sanitizer" not in done.stderr, done.stderr[-3000:])
    check_results(done.stdout, wanted=name != "frames in pieces" and not (fails and SLOW > 1))


def line_tests():
    """All lines run at once, as many as AT_ONCE; each has a test that waits for its own."""
    pool = concurrent.futures.ThreadPoolExecutor(AT_ONCE)
    for name in TROUBLE:
        for use in USE:
            future = pool.submit(run_line, name, use)

            def test(folder, future=future):
                future.result()
            test.__name__ = f"{name}, {use}"
            yield test


if __name__ == "__main__":
    main(list(line_tests()))
