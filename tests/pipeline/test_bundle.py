#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""tools/bundle.sh: the folder runs with an empty environment, moved elsewhere, on a root without GStreamer; its programs
and plugins find their libraries without env.sh."""
import os
import pathlib
import re
import shutil
import tempfile

from common import BUILD, PRELOAD, SOURCE, Skip, check, environment, good, main, make_inputs, run

LIMIT_MIB = 72  # of it 15 for the libraries of the service: gnutls, and what libcurl needs
LINE = ("gst-launch-1.0 -q filesrc location='{clip}' ! avidemux ! jpegdec ! videoconvert ! "
        "glm4vdescribe name=d interval=1000000000 ! fakesink d.text ! webvttenc ! fdsink | cat")


MADE = pathlib.Path(tempfile.mkdtemp(prefix="glm4v-bundle-"))


def bundle(folder):
    """A copy of the bundle, which is made once."""
    if PRELOAD:
        raise Skip("a sanitized build is not for shipping")
    if not (MADE / "bundle").exists():
        good(run(["bash", SOURCE / "tools" / "bundle.sh", MADE / "bundle", BUILD], timeout=180))
    shutil.copytree(MADE / "bundle", folder / "bundle")
    return folder / "bundle"


def captions(done):
    return re.findall(r"--> [\d:.]+\n(.+)", good(done).stdout)


def moved_bundle(folder):
    moved = folder / "some where" / "else"
    moved.parent.mkdir()
    return bundle(folder).rename(moved)


def it_runs_moved_with_an_empty_environment(folder):
    moved = moved_bundle(folder)
    make_inputs(folder)
    env = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
    script = f". '{moved}/env.sh' && " + LINE.format(clip=folder / "clip.avi")
    check(len(captions(run(script, env=env))) >= 5)
    # A format that gdk-pixbuf reads: its loaders are the bundle's.
    (folder / "picture.ppm").write_bytes(b"P6 64 64 255\n" + bytes(64 * 64 * 3))
    good(run(f". '{moved}/env.sh' && glm4v describe '{folder}/picture.ppm'", env=env))
    done = good(run(f". '{moved}/env.sh' && command -v glm4v && glm4v describe '{folder}/picture.png' "
                    "&& gst-inspect-1.0 glm4vdescribe | grep Filename", env=env))
    check(done.stdout.count("some where/else") == 2, done.stdout)


def programs_run_moved_without_env_sh(folder):
    moved = moved_bundle(folder)
    make_inputs(folder)
    home = {"HOME": folder}  # without it GStreamer keeps its registry in the user's own cache
    check(good(run([moved / "bin" / "glm4v", "--version"], env={})).stdout.startswith("glm4v "))
    check(good(run([moved / "bin" / "glm4v", "inspect"], env={})).stdout.splitlines()[0].endswith("models/surface-tiny"))
    done = good(run([moved / "bin" / "glm4v", "describe", folder / "picture.png"], env=home))
    check(done.stdout.strip() and "External plugin loader" not in done.stderr, done.stderr)
    line = f"'{moved}/bin/'" + LINE.format(clip=folder / "clip.avi")
    env = {**home, "PATH": "/usr/bin:/bin", "GST_PLUGIN_PATH": moved / "lib" / "gstreamer-1.0"}
    check(len(captions(run(line, env=env))) >= 5)


def the_plugin_loads_into_another_gstreamer_by_its_path_alone(folder):
    moved = moved_bundle(folder)
    make_inputs(folder)
    env = environment(GST_PLUGIN_PATH=moved / "lib" / "gstreamer-1.0", GST_REGISTRY=folder / "registry.bin")
    env.pop("LD_LIBRARY_PATH", None)
    check(len(captions(run(LINE.format(clip=folder / "clip.avi"), env=env))) >= 5)


def libraries_come_from_the_bundle_whatever_the_environment_names(folder):
    moved = moved_bundle(folder)
    files = [path for part in ("bin", "libexec", "lib") for path in (moved / part).rglob("*") if path.is_file()]
    check(len(files) > 50, len(files))
    elsewhere = folder / "elsewhere"  # the same names, as a user's LD_LIBRARY_PATH may have them
    shutil.copytree(moved / "lib", elsewhere)
    done = good(run(["ldd", *files], env={"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": elsewhere}))
    check("not found" not in done.stdout, done.stdout)
    found = set(re.findall(r"=> (/.*) \(0x", done.stdout))
    outside = sorted(path for path in found if not path.startswith(f"{moved}/"))
    check(len(found) > 30 and all(re.search(r"/lib(c|m|dl|rt|pthread|resolv|util)\.so", path) for path in outside), outside)


def it_says_which_package_lacks(folder):
    programs = folder / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "realpath"):
        (programs / name).symlink_to(shutil.which(name))
    done = run(["bash", SOURCE / "tools" / "bundle.sh", folder / "bundle", BUILD], env={"PATH": str(programs)})
    check(done.returncode == 1 and "package patchelf" in done.stderr and not (folder / "bundle").exists(), done.stderr)


def it_stays_small_and_names_the_licences(folder):
    made = bundle(folder)
    size = sum(path.stat().st_size for path in made.rglob("*") if path.is_file())
    check(size < LIMIT_MIB << 20, size >> 20, "MiB")
    notices = {path.name for path in (made / "share" / "doc").iterdir()}
    check({"glm4vdescribe", "libgstreamer1.0-0", "libjansson4"} <= notices, notices)


def with_cuda_it_has_the_module_and_not_cublaslt(folder):
    """Of a build without the module nothing is made."""
    if PRELOAD:
        raise Skip("a sanitized build is not for shipping")
    made, has_module = folder / "bundle", (BUILD / "engine" / "libglm4v-cuda.so").exists()
    done = run(["bash", SOURCE / "tools" / "bundle.sh", "--cuda", made, BUILD], timeout=180)
    if not has_module:
        check(done.returncode == 1 and "-Dcuda=enabled" in done.stderr and not made.exists(), done)
        return
    names = {path.relative_to(made / "lib").as_posix() for path in good(done) and (made / "lib").rglob("*.so*")}
    check({"glm4v/libglm4v-cuda.so", "gstreamer-1.0/libgstnvcodec.so"} <= names, sorted(names))
    check(not [name for name in names if re.search("cublas|libcuda|libnv", name)], sorted(names))
    done = run([made / "bin" / "glm4v", "inspect", "--device", "cuda"], env={"CUDA_VISIBLE_DEVICES": ""})
    check(done.returncode == 3 and re.search("no NVIDIA driver|libcublasLt|CUDA_VISIBLE_DEVICES", done.stderr), done)


def it_refuses_a_folder_that_holds_something(folder):
    (folder / "bundle").mkdir()
    (folder / "bundle" / "mine").write_text("keep")
    done = run(["bash", SOURCE / "tools" / "bundle.sh", folder / "bundle", BUILD])
    check(done.returncode == 1 and "not empty" in done.stderr, done.stderr)
    check([path.name for path in (folder / "bundle").iterdir()] == ["mine"])


def it_runs_on_a_root_that_has_only_the_c_library(folder):
    if os.geteuid():
        raise Skip("chroot needs root")
    root = folder / "root"
    root.mkdir()
    shutil.move(bundle(folder), root / "bundle")
    make_inputs(folder)
    shutil.copy(folder / "clip.avi", root)
    for program in ("/bin/bash", "/bin/cat", "/usr/bin/dirname", "/bin/mkdir"):
        target = root / program.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(program, target)
    libraries = good(run("ldd /bin/bash /bin/cat; echo /lib/x86_64-linux-gnu/lib{dl,rt,m,pthread,resolv,util}.so.?")).stdout
    for name in set(re.findall(r"(/\S+\.so\S*)", libraries)):
        target = root / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, target)
    (root / "tmp").mkdir()
    (root / "dev").mkdir()
    (root / "dev" / "null").write_text("")
    # What the dynamic loader asks for the place of a program; /proc itself could not be mounted everywhere.
    (root / "proc" / "self").mkdir(parents=True)
    (root / "proc" / "self" / "exe").symlink_to("/bundle/bin/gst-launch-1.0")
    done = run(["/usr/sbin/chroot", root, "/bin/bash", "-c", ". /bundle/env.sh && " + LINE.format(clip="/clip.avi")],
               env={"HOME": "/tmp", "PATH": "/usr/bin:/bin"})
    check(len(captions(done)) >= 5, done.stdout, done.stderr)
    done = run(["/usr/sbin/chroot", root, "/bin/bash", "-c", "/bundle/bin/" + LINE.format(clip="/clip.avi")],
               env={"HOME": "/tmp", "PATH": "/usr/bin:/bin", "GST_PLUGIN_PATH": "/bundle/lib/gstreamer-1.0"})
    check(len(captions(done)) >= 5, done.stdout, done.stderr)


if __name__ == "__main__":
    try:
        main([it_runs_moved_with_an_empty_environment, programs_run_moved_without_env_sh,
              the_plugin_loads_into_another_gstreamer_by_its_path_alone,
              libraries_come_from_the_bundle_whatever_the_environment_names, it_says_which_package_lacks,
              it_stays_small_and_names_the_licences, with_cuda_it_has_the_module_and_not_cublaslt,
              it_refuses_a_folder_that_holds_something,
              it_runs_on_a_root_that_has_only_the_c_library])
    finally:
        shutil.rmtree(MADE)
