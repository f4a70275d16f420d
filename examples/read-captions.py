#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How a Python application reads captions: from the bus, as text from an appsink, and boxes from the frames.

Usage: read-captions.py FILE [PROMPT]     for boxes ask "Report the defects as JSON."
    (Debian: python3-gi gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0)
"""
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstApp", "1.0")
gi.require_version("GstVideo", "1.0")
from gi.repository import GLib, Gst, GstApp, GstVideo  # noqa: E402  (GstApp adds the appsink methods)


def clock(nanoseconds):
    seconds, rest = divmod(nanoseconds, Gst.SECOND)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{rest // 1000000:03}"


def say(line):
    """One write a line: captions and results come from two threads."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def on_text(sink):
    """A cue with its time and duration. Runs on a streaming thread."""
    buffer = sink.pull_sample().get_buffer()
    text = buffer.extract_dup(0, buffer.get_size()).decode("utf-8")
    say(f"text  {clock(buffer.pts)}  +{clock(buffer.duration)}  {text}")
    return Gst.FlowReturn.OK


def on_result(result):
    """All keys are listed in docs/element.md; the meta on the frames has the same."""
    _, pts = result.get_uint64("pts")
    say(f"bus   {clock(pts)}  {result.get_string('status')}  {result.get_string('text')}")


def on_frame(pad, info):
    """Boxes that an answer names are regions of interest on the frame, in pixels. Runs on a streaming thread."""
    buffer = info.get_buffer()
    number = 0
    while region := GstVideo.buffer_get_video_region_of_interest_meta_id(buffer, number):
        kind = GLib.quark_to_string(region.roi_type)
        say(f"box   {clock(buffer.pts)}  {kind} at {region.x},{region.y}, {region.w} x {region.h} pixels")
        number += 1
    return Gst.PadProbeReturn.OK


def main():
    Gst.init(None)
    if len(sys.argv) not in (2, 3) or sys.argv[1].startswith("-"):
        sys.exit(f"usage: {sys.argv[0]} FILE [PROMPT]")
    pipeline = Gst.parse_launch(
        "filesrc name=file ! decodebin ! videoconvert ! glm4vdescribe name=d "
        "d.src ! queue ! fakesink  d.text ! queue ! appsink name=text sync=false emit-signals=true")
    pipeline.get_by_name("file").set_property("location", sys.argv[1])
    if len(sys.argv) == 3:
        pipeline.get_by_name("d").set_property("prompt", sys.argv[2])
    pipeline.get_by_name("text").connect("new-sample", on_text)
    pipeline.get_by_name("d").get_static_pad("src").add_probe(Gst.PadProbeType.BUFFER, on_frame)
    pipeline.set_state(Gst.State.PLAYING)
    bus = pipeline.get_bus()
    wanted = Gst.MessageType.ELEMENT | Gst.MessageType.EOS | Gst.MessageType.ERROR
    status = None
    while status is None:
        message = bus.timed_pop_filtered(Gst.CLOCK_TIME_NONE, wanted)
        if message.type == Gst.MessageType.ERROR:
            status = message.parse_error()[0].message
        elif message.type == Gst.MessageType.EOS:
            status = 0
        elif message.has_name("glm4vdescribe-result"):
            on_result(message.get_structure())
    pipeline.set_state(Gst.State.NULL)
    sys.exit(status)


if __name__ == "__main__":
    main()
