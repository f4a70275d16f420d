#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Makes the folder of plugins that tests load: link_gst_plugins.py LIST PLUGINS FOLDER MISSING DEPFILE.

LIST is gst-plugins.txt, PLUGINS the folder of GStreamer's plugins. FOLDER gets a link to each plugin of LIST and loses
every other file. MISSING gets a line for each plugin that is not installed: building does not need them, so that this
is no error here; test_plugins.py makes it one. DEPFILE makes ninja run this again after packages are installed.
"""
import pathlib
import sys


def listed(path):
    """(plugin, Debian package) of each line."""
    lines = [line.split("#")[0].split() for line in path.read_text().splitlines()]
    wrong = [" ".join(words) for words in lines if len(words) not in (0, 2)]
    if wrong:
        sys.exit(f"{path}: expected a plugin and its Debian package in each line, not: {wrong[0]}")
    return [tuple(words) for words in lines if words]


def link(plugins, source, folder):
    """Links what is installed; returns what is missing."""
    wanted = {f"libgst{name}.so": source / f"libgst{name}.so" for name, _ in plugins}
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if not path.is_symlink() or path.readlink() != wanted.get(path.name):
            path.unlink()
    for name, target in wanted.items():
        if target.exists() and not (folder / name).is_symlink():
            (folder / name).symlink_to(target)
        elif not target.exists():
            (folder / name).unlink(missing_ok=True)
    return [(name, package) for name, package in plugins if not (source / f"libgst{name}.so").exists()]


def escaped(path):
    return str(path).replace(" ", "\\ ")


def main():
    plugin_list, source, folder, missing, depfile = map(pathlib.Path, sys.argv[1:])
    lines = [f"The tests need GStreamer's plugin {name}, which is not in {source}. Install the Debian package {package}.\n"
             for name, package in link(listed(plugin_list), source, folder)]
    sys.stdout.writelines(lines)
    missing.write_text("".join(lines))
    depfile.write_text(f"{escaped(missing)}: {escaped(source)} {escaped(folder)}\n")


if __name__ == "__main__":
    main()
