#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Tests load the GStreamer plugins of tests/support/gst-plugins.txt and no others, whatever is installed beside them."""
import json
import re
import shutil
import sys

from common import BUILD, GLM4V, MISSING_PLUGINS, SOURCE, check, environment, good, main, make_inputs, run, tiny_model

sys.path.insert(0, str(SOURCE / "tests" / "support"))
from link_gst_plugins import listed  # lies in the folder that is named just above

LIST = SOURCE / "tests" / "support" / "gst-plugins.txt"
LINKS = BUILD / "tests" / "gst-plugins"
POISON = BUILD / "tests" / "pipeline" / "libgstpoisoned.so"
SYSTEM_PATH = "GST_PLUGIN_SYSTEM_PATH_1_0"


def the_listed_plugins_are_installed(folder):
    check(not MISSING_PLUGINS, MISSING_PLUGINS)


def the_folder_holds_the_listed_plugins_and_no_others(folder):
    names = [name for name, _ in listed(LIST)]
    check(names == sorted(set(names)), "sorted by name, each once:", names)
    check(sorted(path.name for path in LINKS.iterdir()) == [f"libgst{name}.so" for name in names])


def the_tool_installs_the_packages_of_the_list(folder):
    tool = (SOURCE / "tools" / "install-packages.sh").read_text()
    sets = dict(re.findall(r'^(\w+)="([^"]*)"', tool, flags=re.M))
    installed = (sets["build"] + " " + sets["run"] + " " + sets["test"]).split()
    absent = sorted({package for _, package in listed(LIST)} - set(installed))
    check(not absent, "not installed by tools/install-packages.sh:", absent)


def link(folder, lines):
    (folder / "list.txt").write_text(lines)
    return run([sys.executable, SOURCE / "tests" / "support" / "link_gst_plugins.py", folder / "list.txt", folder / "from",
                folder / "links", folder / "missing.txt", folder / "depfile.d"])


def a_missing_plugin_is_told_with_its_package(folder):
    (folder / "from").mkdir()
    (folder / "from" / "libgstthere.so").touch()
    done = good(link(folder, "absent  some-package\nthere  other-package # why\n"))
    check("plugin absent" in done.stdout and "package some-package" in done.stdout, done.stdout)
    check("there" not in done.stdout.split() and (folder / "missing.txt").read_text() == done.stdout, done.stdout)
    done = link(folder, "absent\n")
    check(done.returncode == 1 and "list.txt" in done.stderr and "not: absent" in done.stderr, done.stderr)


def the_folder_follows_the_list_and_what_is_installed(folder):
    (folder / "from").mkdir()
    for name in "abc":
        (folder / "from" / f"libgst{name}.so").write_text(name)

    def links(lines):
        good(link(folder, lines))
        return sorted(path.name for path in (folder / "links").iterdir())
    check(links("a x\nb x\n") == ["libgsta.so", "libgstb.so"])
    (folder / "links" / "libgststray.so").touch()
    check(links("b x\nc x\n") == ["libgstb.so", "libgstc.so"])
    (folder / "from" / "libgstb.so").unlink()
    check(links("b x\nc x\n") == ["libgstc.so"])


def every_test_of_the_house_has_the_folder_as_its_system_path(folder):
    tests = json.loads(good(run(["meson", "introspect", "--tests", BUILD])).stdout)
    suites = ("element", "pipeline", "engine", "unit", "golden", "fuzz")
    concerned = [test for test in tests if any(suite.split(":")[-1] in suites for suite in test["suite"])]
    check(len(concerned) > 50, len(concerned))
    without = [test["name"] for test in concerned
               if test["env"].get(SYSTEM_PATH) != str(LINKS) or "GST_PLUGIN_PATH_1_0" not in test["env"]]
    check(not without, "not env: test_env of tests/meson.build, or one made from it:", without)


def poisoned(folder, **extra):
    """An environment in which the system has a plugin that must not be loaded, where GStreamer looks by default."""
    plugins = folder / "data" / "gstreamer-1.0" / "plugins"
    plugins.mkdir(parents=True, exist_ok=True)
    shutil.copy(POISON, plugins)
    return environment(preload=True, XDG_DATA_HOME=folder / "data", GST_REGISTRY=folder / "registry.bin",
                       GLM4V_TEST_POISON=folder / "loaded", **extra)


def programs(folder):
    make_inputs(folder)
    return {"gst-launch": ["gst-launch-1.0", "-q", "videotestsrc", "num-buffers=1", "!", "fakesink"],
            "glm4v": [GLM4V, "describe", "--max-tokens", "1", folder / "picture.png"],
            "read-captions": [BUILD / "examples" / "read-captions", folder / "clip.avi"],
            "element-sampler": [BUILD / "tests" / "element" / "element-sampler"]}


def a_plugin_of_the_system_is_not_loaded(folder):
    for name, command in programs(folder).items():
        (folder / "registry.bin").unlink(missing_ok=True)
        env = poisoned(folder, GLM4V_MODEL=tiny_model(folder))
        if name == "element-sampler":
            env.update(GST_PLUGIN_PATH="", G_DEBUG="fatal-criticals")
        good(run(command, env=env))
        check((folder / "registry.bin").exists(), name, "looked for no plugins")
        check(not (folder / "loaded").exists(), name, "loaded the poisoned plugin")


def the_poisoned_plugin_is_noticed_where_it_is_loaded(folder):
    env = poisoned(folder)
    env[SYSTEM_PATH] = str(folder / "data" / "gstreamer-1.0" / "plugins")
    run(["gst-launch-1.0", "-q", "fakesrc", "num-buffers=1", "!", "fakesink"], env=env)
    check((folder / "loaded").exists(), "the other tests of this file could not fail")


if __name__ == "__main__":
    main([the_listed_plugins_are_installed, the_folder_holds_the_listed_plugins_and_no_others,
          the_tool_installs_the_packages_of_the_list, a_missing_plugin_is_told_with_its_package,
          the_folder_follows_the_list_and_what_is_installed, every_test_of_the_house_has_the_folder_as_its_system_path,
          a_plugin_of_the_system_is_not_loaded, the_poisoned_plugin_is_noticed_where_it_is_loaded])
