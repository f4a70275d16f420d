#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# Creates a folder that runs on another machine of the same kind without GStreamer or other packages: plugin,
# library, command line, model, the GStreamer tools and plugins for files, cameras and network streams, and the
# shared libraries of all these (except the C library: glibc of at least this version is needed).
#
#   tools/bundle.sh [--cuda] FOLDER [BUILD]     BUILD: a finished build folder, default build/
#
# --cuda adds the module for NVIDIA GPUs and GStreamer's elements that decode and copy there. Neither the driver nor
# cuBLASLt (libcublasLt.so.13, 540 MB) is part of the folder: the machine has them from the driver's installer and from
# CUDA 13 or "pip install nvidia-cublas".
# On the other machine: . FOLDER/env.sh; glm4v describe picture.png; gst-launch-1.0 ... ! glm4vdescribe ! ...
# The programs also run without env.sh; GST_PLUGIN_PATH=FOLDER/lib/gstreamer-1.0 makes the plugins available.
# Needs the Debian package patchelf.
set -eu
help() { sed -n '3,/^set/s/^# \{0,1\}//p' "$0"; }
cuda=
case ${1-} in
--help) help; exit ;;
--cuda)
    cuda=yes
    shift
    ;;
-*) set -- ;;
esac
[ $# = 1 ] || [ $# = 2 ] || { help >&2; exit 2; }
target=$1
build=$(realpath "${2:-$(dirname "$0")/../build}")

if ! command -v patchelf >/dev/null; then
    echo "patchelf is needed: install the Debian package patchelf" >&2
    exit 1
fi
if [ -n "$cuda" ] && [ ! -e "$build/engine/libglm4v-cuda.so" ]; then
    echo "$build has no CUDA module: configure it with -Dcuda=enabled" >&2
    exit 1
fi
if [ -e "$target" ] && [ -n "$(ls -A "$target")" ]; then
    echo "$target exists and is not empty" >&2
    exit 1
fi
mkdir -p "$target"
target=$(realpath "$target")

# Decoding: MP4, Matroska, AVI with H.264, JPEG, PNG; sources: files, cameras, RTSP, RTP; text out: WebVTT, SRT.
# Besides, glm4v describe reads the pictures of docs/inputs.md but AVIF and HEIF.
plugins="app avi coreelements imagefreeze isomp4 jpeg jpegformat matroska multifile openh264 playback png rawparse rtp
    rtpmanager rtsp subenc tcp typefindfunctions udp video4linux2 videoconvertscale videocrop videoparsersbad videorate
    videotestsrc"
programs="gst-launch-1.0 gst-inspect-1.0"

gst_plugins=$(pkg-config --variable=pluginsdir gstreamer-1.0)
gst_scanner=$(pkg-config --variable=pluginscannerdir gstreamer-1.0)/gst-plugin-scanner

# Our own part through the install rules, so that the two cannot differ.
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
DESTDIR=$stage meson install -C "$build" --no-rebuild --quiet
mkdir -p "$target/bin" "$target/lib/gstreamer-1.0" "$target/libexec" "$target/share/doc"
ours() { find "$stage" -name "$1" -path "*$2*" | head -n 1; }
cp "$(ours glm4v /bin/)" "$target/bin/"
cp "$(ours libgstglm4vdescribe.so /gstreamer-1.0/)" "$target/lib/gstreamer-1.0/"
cp -L "$(ours 'libglm4v.so.0' /lib)" "$target/lib/"
cp -r "$(ours glm4v /share/)" "$(ours gstreamer-1.0 /share/)" "$target/share/"
if [ -n "$cuda" ]; then
    mkdir "$target/lib/glm4v"
    cp "$(ours libglm4v-cuda.so /lib)" "$target/lib/glm4v/"
    plugins="$plugins nvcodec"
fi

for program in $programs; do
    cp "$(command -v "$program")" "$target/bin/"
done
cp "$gst_scanner" "$target/libexec/"
for plugin in $plugins; do
    cp "$gst_plugins/libgst$plugin.so" "$target/lib/gstreamer-1.0/"
done

# What all of it links to, but the C library and the dynamic loader, which belong to the machine.
find "$target/bin" "$target/libexec" "$target/lib" -type f -print0 | xargs -0 ldd 2>/dev/null |
    sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | sort -u |
    grep -vE '/(libcublasLt|ld-linux[^/]*|lib(c|m|dl|rt|pthread|resolv|nss_[a-z]*|util))\.so[^/]*$' |
    while read -r library; do
        [ -e "$target/lib/$(basename "$library")" ] || cp -L "$library" "$target/lib/"
    done

# gdk-pixbuf's loaders of BMP, ICO, PNM and TGA, found by name like libraries. AVIF and HEIF, whose decoders are larger
# than all the rest, are left out: glm4v says so where it meets one.
pixbuf_loaders=$(pkg-config --variable=gdk_pixbuf_moduledir gdk-pixbuf-2.0)
for loader in bmp ico pnm tga; do
    cp "$pixbuf_loaders/libpixbufloader-$loader.so" "$target/lib/"
done
"$(pkg-config --variable=gdk_pixbuf_query_loaders gdk-pixbuf-2.0)" "$target"/lib/libpixbufloader-*.so |
    sed 's|^"/.*/|"|' >"$target/share/pixbuf-loaders.cache"

# Each finds its libraries beside itself, whatever the environment says (RPATH comes before LD_LIBRARY_PATH).
find_libraries() { patchelf --force-rpath --set-rpath "$@"; }
# shellcheck disable=SC2016
{
    find_libraries '$ORIGIN/../lib' "$target"/bin/* "$target"/libexec/*
    find_libraries '$ORIGIN' "$target"/lib/*.so*
    find_libraries '$ORIGIN/..' "$target"/lib/gstreamer-1.0/*.so
    [ -z "$cuda" ] || find_libraries '$ORIGIN/..' "$target"/lib/glm4v/*.so
}

# The licences of what was copied, by Debian package.
mapfile -t names < <(find "$target/lib" -maxdepth 2 -name '*.so*' -printf '*/%f\n' | sort -u)
dpkg-query -S "${names[@]}" 2>/dev/null | cut -d: -f1 | grep -v '^lib32' | sort -u | while read -r package; do
    [ ! -e "/usr/share/doc/$package/copyright" ] || cp "/usr/share/doc/$package/copyright" "$target/share/doc/$package"
done
cp "$(dirname "$0")/../LICENSE" "$target/share/doc/glm4vdescribe"

cat >"$target/env.sh" <<'END'
# Source this (bash, dash, zsh) from anywhere:  . FOLDER/env.sh
# It points this shell's GStreamer at the bundle and nothing else; the registry is kept in the user's cache.
if [ -n "${BASH_SOURCE:-}" ]; then glm4v_bundle=${BASH_SOURCE}
elif [ -n "${ZSH_VERSION:-}" ]; then glm4v_bundle=${(%):-%x}
else glm4v_bundle=${GLM4V_BUNDLE:?set GLM4V_BUNDLE to the folder of env.sh in this shell}/env.sh
fi
glm4v_bundle=$(cd "$(dirname "$glm4v_bundle")" && pwd)
export PATH="$glm4v_bundle/bin:${PATH:-/usr/bin:/bin}"
export GST_PLUGIN_SYSTEM_PATH_1_0="$glm4v_bundle/lib/gstreamer-1.0"
export GST_PLUGIN_PATH_1_0=
export GST_PRESET_PATH="$glm4v_bundle/share/gstreamer-1.0/presets"
export GST_PLUGIN_SCANNER_1_0="$glm4v_bundle/libexec/gst-plugin-scanner"
export GDK_PIXBUF_MODULE_FILE="$glm4v_bundle/share/pixbuf-loaders.cache"
export GST_REGISTRY_1_0="${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/glm4v-bundle-registry.bin"
unset glm4v_bundle
END
du -sh "$target" | sed 's/\t/  /'
