#!/usr/bin/env bash
# SPDX-License-Identifier: LGPL-2.1-or-later
# From a fresh clone to captions: installs what is missing (and says what), builds, then runs two GStreamer pipelines
# over a clip with the model that comes with the project:
#   1. captions with their times, printed here and written to out/captions.vtt
#   2. out/caption.png: one frame with its caption drawn on it
# Usage: examples/quickstart.sh [CLIP]        BUILD=folder: build there (default build/)
set -eu
cd "$(dirname "$0")/.."
clip=$(realpath -- "${1:-examples/media/line.mp4}")
build=${BUILD:-build}

bash tools/install-packages.sh build run
if [ ! -f "$build/build.ninja" ]; then
    echo "Configuring $build ..."
    log=$(meson setup "$build") || { echo "$log" | tail -n 40; exit 1; }
fi
echo "Building ..."
log=$(ninja -C "$build" gst-plugin/libgstglm4vdescribe.so tools/glm4v) || { echo "$log" | tail -n 40; exit 1; }

# Used from the build folder; a registry of its own keeps the user's untouched.
build=$(realpath "$build")
export GST_PLUGIN_PATH=$build/gst-plugin GST_REGISTRY=$build/registry.bin
mkdir -p out

# fdsink would seek in a file that stdout was sent to; through cat it never sees one.
echo "Captions of $clip, each as long as it takes to be read:"
gst-launch-1.0 -q \
    filesrc location="$clip" ! decodebin ! videoconvert ! glm4vdescribe name=d ! fakesink \
    d.text ! queue ! webvttenc ! tee name=captions \
    captions. ! queue ! filesink location=out/captions.vtt \
    captions. ! queue ! fdsink | cat

# identity ends the stream at the frame that is kept: multifilesink overwrites the picture until then. It stands behind
# the overlay, since frames that a decoder still has under way may follow its EOS, and would have no caption.
gst-launch-1.0 -q \
    filesrc location="$clip" ! decodebin ! videoconvert ! glm4vdescribe name=d ! queue \
    ! textoverlay name=caption font-desc="WenQuanYi Micro Hei, 14" shaded-background=true \
    ! identity eos-after="${FRAME:-131}" \
    ! videorate ! video/x-raw,framerate=2/1 ! videoconvert ! pngenc ! multifilesink location=out/caption.png \
    d.text ! queue ! caption.text_sink

echo
echo "Written: out/captions.vtt out/caption.png"
