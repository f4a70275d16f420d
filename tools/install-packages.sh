#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Installs the Debian packages that a job of this project needs, those that are missing and no others,
# after saying which: tools/install-packages.sh build|run|test|clang|cuda|style...
# Does nothing when all are there, so a second run costs nothing. Works as root or through sudo.
set -eu

build="build-essential pkg-config meson ninja-build libjansson-dev libutf8proc-dev
    libmicrohttpd-dev libcurl4-gnutls-dev nettle-dev libgdk-pixbuf-2.0-dev libgif-dev libjpeg-dev libpng-dev libdeflate-dev
    libtiff-dev libwebp-dev libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev"
# What the pipelines of README.md use: plugins-bad has webvttenc and openh264dec, x has textoverlay.
run="gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good
    gstreamer1.0-plugins-bad gstreamer1.0-libav gstreamer1.0-x libgstreamer1.0-0 fonts-wqy-microhei"
test="libgstrtspserver-1.0-dev gstreamer1.0-plugins-ugly python3 python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0
    patchelf ffmpeg haproxy locales curl python3-venv python3-pil python3-qrcode python3-jsonschema heif-gdk-pixbuf
    libheif-examples"
clang="clang libclang-rt-dev"
# Frames in memory of a GPU; CUDA itself comes from its own packages.
cuda="libgstreamer-plugins-bad1.0-dev"
style="clang-format python3 git"
valgrind="valgrind"
coverage="llvm"

wanted=
for set in "$@"; do
    case $set in
    build | run | test | clang | cuda | style | valgrind | coverage) wanted="$wanted ${!set}" ;;
    *)
        echo "usage: $0 build|run|test|clang|cuda|style|valgrind|coverage..." >&2
        exit 2
        ;;
    esac
done

missing=
for package in $wanted; do
    case $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true) in
    installed) ;;
    *) case " $missing " in *" $package "*) ;; *) missing="$missing $package" ;; esac ;;
    esac
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "This system has no apt-get. Please install what these Debian packages hold:$missing" >&2
    exit 1
fi
as_root=
if [ "$(id -u)" != 0 ]; then
    as_root=sudo
    command -v sudo >/dev/null || { echo "Run as root, or install:$missing" >&2; exit 1; }
fi
echo "Installing these Debian packages with apt-get:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# A stale or partly unreachable package list is no reason to stop: the installation decides.
$as_root apt-get -qq update >"$log" 2>&1 || tail -n 3 "$log" >&2
# shellcheck disable=SC2086
if ! $as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y --no-install-recommends \
    -o Dpkg::Use-Pty=0 install $missing >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    echo "apt-get could not install:$missing" >&2
    exit 1
fi
