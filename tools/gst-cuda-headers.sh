#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Headers of GStreamer's library for CUDA, for the part of the plugin that has frames in memory of a GPU:
# tools/gst-cuda-headers.sh FOLDER unpacks them from Debian's package into FOLDER and prints the folder that
# PKG_CONFIG_PATH needs. The package itself would install 144 others, all of OpenCV among them; the library that belongs
# to the headers comes with GStreamer's plugins. Does nothing if the headers are installed, or are in FOLDER already.
set -eu

package=libgstreamer-plugins-bad1.0-dev
[ $# = 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
if pkg-config --exists gstreamer-cuda-1.0; then
    exit 0
fi
mkdir -p "$1"
folder=$(cd "$1" && pwd)
if [ ! -f "$folder/pkgconfig/gstreamer-cuda-1.0.pc" ]; then
    command -v apt-get >/dev/null || { echo "This system has no apt-get; please install gstreamer-cuda-1.0.pc" >&2; exit 1; }
    library=$(find /usr/lib -name libgstcuda-1.0.so.0 2>/dev/null | head -n 1)
    [ -n "$library" ] || { echo "libgstcuda-1.0.so.0 is missing; it comes with gstreamer1.0-plugins-bad" >&2; exit 1; }
    # Of the version that is installed, or the headers might not be the library's.
    version=$(dpkg-query -W -f '${Version}' libgstreamer-plugins-bad1.0-0)
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    (cd "$work" && apt-get -qq download "$package=$version") >"$work/log" 2>&1 ||
        { tail -n 3 "$work/log" >&2; echo "apt-get could not download $package=$version" >&2; exit 1; }
    dpkg -x "$work/$package"_*.deb "$work/root"
    mkdir -p "$folder/include/gst" "$folder/lib" "$folder/pkgconfig"
    cp -r "$work/root/usr/include/gstreamer-1.0/gst/cuda" "$folder/include/gst/"
    ln -sf "$library" "$folder/lib/libgstcuda-1.0.so"
    sed -e "s|^libdir=.*|libdir=$folder/lib|" -e "s|^Cflags:.*|Cflags: -I$folder/include|" \
        "$(find "$work/root" -name gstreamer-cuda-1.0.pc)" >"$work/pc"
    mv "$work/pc" "$folder/pkgconfig/gstreamer-cuda-1.0.pc" # last: it says that all is there
fi
echo "$folder/pkgconfig"
