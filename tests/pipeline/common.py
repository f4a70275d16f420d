# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the pipeline tests share: TAP, running commands with a time limit, small inputs made by GStreamer.

meson passes the places in the environment: GLM4V_SOURCE, GLM4V_BUILD, GLM4V_PRELOAD (sanitizer builds: the library
that programs which are not sanitized need in order to load our plugin).
"""
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import traceback

import jsonschema

SOURCE = pathlib.Path(os.environ["GLM4V_SOURCE"])
BUILD = pathlib.Path(os.environ["GLM4V_BUILD"])
PRELOAD = os.environ.get("GLM4V_PRELOAD", "")
SHARED = SOURCE.parent / "shared"
GLM4V = BUILD / "tools" / "glm4v"
SHIPPED = SOURCE / "models" / "surface-tiny"
EXAMPLES = SOURCE / "tests" / "data" / "surface-tiny" / "examples"  # pictures that the shipped model knows or not
SLOW = 8 if PRELOAD else 1
MISSING_PLUGINS = (BUILD / "tests" / "gst-plugins-missing.txt").read_text()


class Skip(Exception):
    """The test cannot run here; the reason is told."""


def check(condition, *what):
    if not condition:
        raise AssertionError(" ".join(str(w) for w in what))


# For programs that read by HTTP: GStreamer 1.22's souphttpsrc loses 48 bytes whenever it ends.
HTTP_LEAKS = {"ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}


def environment(preload=False, **extra):
    """Of the programs that a test starts: plugins as tests/meson.build names them, under the names that users know."""
    env = dict(os.environ)
    for name in ("GST_PLUGIN_PATH", "GST_REGISTRY"):
        env[name] = env.pop(name + "_1_0")
    if preload and PRELOAD:
        env["LD_PRELOAD"] = PRELOAD
        # Programs that are not ours keep what they allocated until they end: leaks are the business of the programs
        # of the other suites, which are sanitized throughout.
        env["ASAN_OPTIONS"] = env.get("ASAN_OPTIONS", "") + ":detect_leaks=0"
    env.update({key: str(value) for key, value in extra.items()})
    return env


def run(command, timeout=60, preload=False, env=None, cwd=None, stdin=subprocess.DEVNULL):
    """Runs a list (or a shell line) and returns it with text output. Hanging is a failure."""
    shell = isinstance(command, str)
    words = ["bash", "-c", command] if shell else [str(word) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, timeout=timeout * SLOW, cwd=cwd, stdin=stdin,
                              env=environment(preload) if env is None else env)
    except subprocess.TimeoutExpired as late:
        raise AssertionError(f"hangs: {command}\n{(late.stdout or b'').decode(errors='replace')[-2000:]}\n"
                             f"{(late.stderr or b'').decode(errors='replace')[-2000:]}") from late
    done.stdout = done.stdout.decode("utf-8", "replace")
    done.stderr = done.stderr.decode("utf-8", "replace")
    return done


def gst_launch(line, timeout=60, **options):
    return run(f"gst-launch-1.0 {line}", timeout=timeout, preload=True, **options)


def good(done, status=0):
    check(done.returncode == status, f"exit status {done.returncode}, not {status}: {done.args[-1]}\n{done.stdout[-2000:]}"
          f"\n{done.stderr[-4000:]}")
    return done


@functools.cache
def validator():
    """Of the lines of --json and of the pad json."""
    schema = json.loads((SOURCE / "docs" / "result.schema.json").read_text())
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema)


def check_object(value):
    """A result or other line matches the schema; its keys stand in the order of the schema."""
    error = next(validator().iter_errors(value), None)
    check(error is None, error and error.message, value)
    order = list(validator().schema["$defs"]["result"]["properties"])
    if "type" not in value and value["status"] != "warning":
        check(list(value) == sorted(value, key=order.index), list(value))


def results_of(text):
    """Of the lines of --json or of the pad json, each of which is checked: objects without those of settings."""
    objects = [json.loads(line) for line in text.splitlines()]
    check(not objects or objects[0].get("type") == "settings", "the settings come first", text[:200])
    for value in objects:
        check_object(value)
    return [value for value in objects if value.get("type") != "settings"]


def one_result(text):
    (result,) = results_of(text)
    return result


def make_inputs(folder):
    """picture.png, picture.jpg, clip.avi (5 s at 10 frames a second, Motion JPEG), sound.wav."""
    frame = "video/x-raw,width=224,height=224"
    lines = [f"videotestsrc pattern=ball num-buffers=1 ! {frame} ! pngenc ! filesink location='{folder}/picture.png'",
             f"videotestsrc pattern=ball num-buffers=1 ! {frame} ! jpegenc ! filesink location='{folder}/picture.jpg'",
             f"videotestsrc pattern=ball num-buffers=50 ! {frame},framerate=10/1 ! jpegenc ! avimux "
             f"! filesink location='{folder}/clip.avi'",
             f"audiotestsrc num-buffers=10 ! wavenc ! filesink location='{folder}/sound.wav'"]
    for line in lines:
        good(gst_launch("-q " + line))


def tiny_model(folder, *words):
    """The tiny random model of tests/support; says nothing sensible, loads at once."""
    target = pathlib.Path(folder) / "-".join(("tiny",) + words)
    if not target.exists():
        target.mkdir()
        good(run([BUILD / "tests" / "support" / "make-tiny-model", target, *words]))
    return target


def main(tests):
    """Runs functions that take a fresh folder; prints TAP. A name on the command line picks tests."""
    failed = 0
    unknown = set(sys.argv[1:]) - {test.__name__ for test in tests}
    if unknown:
        sys.exit(f"unknown test: {', '.join(sorted(unknown))}; known: {', '.join(test.__name__ for test in tests)}")
    tests = [test for test in tests if not sys.argv[1:] or test.__name__ in sys.argv[1:]]
    print(f"1..{len(tests)}", flush=True)
    if MISSING_PLUGINS:
        print("# " + MISSING_PLUGINS.strip().replace("\n", "\n# "), flush=True)
    for number, test in enumerate(tests, 1):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="glm4v-"))
        note = ""
        try:
            test(folder)
        except Skip as reason:
            note = f" # SKIP {reason}"
        except Exception:  # every failure is a "not ok" line
            failed += 1
            print("# " + traceback.format_exc().replace("\n", "\n# "))
            print("not ", end="")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(f"ok {number} - {test.__name__}{note}", flush=True)
    sys.exit(1 if failed else 0)
