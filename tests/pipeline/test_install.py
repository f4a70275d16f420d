#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""meson install puts everything where programs look for it, and it works from there."""
import json
import pathlib

from common import BUILD, PRELOAD, Skip, check, environment, good, main, make_inputs, one_result, run


def installed(folder):
    """DESTDIR/prefix of a staged installation."""
    good(run(["meson", "install", "-C", BUILD, "--no-rebuild", "--quiet"], env=environment(DESTDIR=folder), timeout=120))
    options = json.loads(good(run(["meson", "introspect", "--buildoptions", BUILD])).stdout)
    values = {option["name"]: option["value"] for option in options}
    return folder / values["prefix"].lstrip("/"), values["libdir"]


def clean(prefix, libdir, **extra):
    """An environment without traces of the build folder."""
    env = environment(preload=True, GST_PLUGIN_PATH=prefix / libdir / "gstreamer-1.0")
    for name in ("LD_LIBRARY_PATH", "GLM4V_MODEL"):
        env.pop(name, None)
    return {**env, **{name: str(value) for name, value in extra.items()}}


def every_file_is_in_its_place(folder):
    prefix, libdir = installed(folder)
    for name in (f"{libdir}/gstreamer-1.0/libgstglm4vdescribe.so", f"{libdir}/libglm4v.so", f"{libdir}/libglm4v.so.0",
                 f"{libdir}/pkgconfig/glm4v.pc", "include/glm4v/glm4v.h", "bin/glm4v",
                 "share/glm4v/models/surface-tiny/config.json", "share/glm4v/models/surface-tiny/README.md",
                 "share/gstreamer-1.0/presets/GstGlm4vDescribe.prs"):
        check((prefix / name).exists(), "missing:", name)
    allowed = (str(prefix / libdir), str(prefix / "include" / "glm4v"), str(prefix / "bin"),
               str(prefix / "share" / "glm4v"), str(prefix / "share" / "gstreamer-1.0"))
    stray = [str(path) for path in folder.rglob("*") if path.is_file() and not str(path).startswith(allowed)]
    check(not stray, "stray:", stray)
    static = [str(path) for path in folder.rglob("*.a")]
    check(not static, "internal archives are installed:", static)


def the_library_exports_its_header_and_nothing_else(folder):
    prefix, libdir = installed(folder)
    header = (prefix / "include" / "glm4v" / "glm4v.h").read_text()
    symbols = good(run(["nm", "-D", "--defined-only", prefix / libdir / "libglm4v.so.0"])).stdout.split()[2::3]
    ours = [symbol for symbol in symbols if not symbol.startswith(("__asan", "__ubsan", "__odr"))]
    check(ours and all(symbol + "(" in header for symbol in ours), ours)


def installed_programs_find_library_model_and_plugin(folder):
    prefix, libdir = installed(folder / "stage")
    make_inputs(folder)
    env = clean(prefix, libdir, GST_REGISTRY=folder / "registry.bin")
    picture = folder / "picture.png"
    result = one_result(good(run([prefix / "bin" / "glm4v", "describe", "--json", picture], env=env)).stdout)
    check(result["model"]["name"] == "surface-tiny" and result["text"], result)
    where = good(run([prefix / "bin" / "glm4v", "inspect"], env=env)).stdout.splitlines()[0].split(maxsplit=1)[1]
    check(pathlib.Path(where).resolve().is_relative_to(prefix), where)
    done = good(run("gst-inspect-1.0 glm4vdescribe", env=env))
    check(str(prefix) in done.stdout, done.stdout)
    done = good(run(f"gst-launch-1.0 -q filesrc location='{picture}' ! pngdec ! videoconvert ! glm4vdescribe name=d "
                    "! fakesink d.text ! fdsink | cat", env=env))
    check(len(done.stdout) > 10, done.stdout, done.stderr)
    env["GST_PRESET_PATH"] = str(prefix / "share" / "gstreamer-1.0" / "presets")
    done = good(run(f"gst-launch-1.0 -q filesrc location='{picture}' ! pngdec ! videoconvert "
                    "! glm4vdescribe name=d '@preset=inspect' ! fakesink d.text ! fdsink | cat", env=env))
    check("defects" in json.loads(done.stdout), done.stdout, done.stderr)


def a_program_builds_against_the_pkg_config_file(folder):
    if PRELOAD:
        raise Skip("the library is sanitized, the program would not be")
    prefix, libdir = installed(folder / "stage")
    header = (prefix / "include" / "glm4v" / "glm4v.h").read_text()
    loop = header.split("@code")[1].split("@endcode")[0].replace("\n * ", "\n").replace("\n *\n", "\n")
    (folder / "loop.c").write_text(
        "#include <glm4v/glm4v.h>\n#include <stdio.h>\n" + loop +
        "\nint main(int argc, char **argv)\n{\n    static unsigned char rgb[64 * 64 * 3];\n"
        "    return argc == 2 ? -caption(argv[1], rgb, 64, 64) : 99;\n}\n")
    env = clean(prefix, libdir, PKG_CONFIG_PATH=prefix / libdir / "pkgconfig", LD_LIBRARY_PATH=prefix / libdir,
                PKG_CONFIG_SYSROOT_DIR="stage")  # from the folder: pkg-config gets spaces in a path wrong
    flags = good(run(["pkg-config", "--cflags", "--libs", "glm4v"], env=env)).stdout.split()
    good(run(["cc", "-Wall", "-Werror", folder / "loop.c", "-o", folder / "loop", *flags], env=env, cwd=folder))
    done = good(run([folder / "loop", prefix / "share/glm4v/models/surface-tiny"], env=env))
    check(done.stdout.strip(), "no caption")
    check(run([folder / "loop", folder / "nothing"], env=env).returncode == 3, "NOT_FOUND is -3")


if __name__ == "__main__":
    main([every_file_is_in_its_place, the_library_exports_its_header_and_nothing_else,
          installed_programs_find_library_model_and_plugin, a_program_builds_against_the_pkg_config_file])
