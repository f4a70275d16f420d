#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Captions of a file, a camera or an RTSP stream: on the screen, in files and in the browser, all at once.

    live-captions.py examples/media/line.mp4 --mp4 out/line.mp4 --mkv out/line.mkv --json out/line.jsonl
    live-captions.py rtsp://CAMERA/stream --screen --hls out/live --window 10
    live-captions.py camera --screen                       the first camera of this machine; also /dev/video2

A file is read as fast as it is described and ends by itself. Everything else is live: when a camera fails, ends or
sends no frame for --timeout seconds, its picture is replaced by black, nothing is described, and the camera is opened
again until it returns, while files and segments go on. Ctrl-C ends them properly.
(Debian: python3-gi gir1.2-gstreamer-1.0 gstreamer1.0-plugins-{base,good,bad,ugly} gstreamer1.0-x)
"""
import argparse
import fractions
import pathlib
import shutil
import signal
import sys
import threading
import time

import gi

import hls

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
FRESH = 0.5  # seconds: what intervideosrc repeats for longer is not described, nor what it has in the first ones
FIRST_PAUSE, LAST_PAUSE = 1, 4  # seconds between attempts
# For muxers that keep video until they know the next caption.
LONG_QUEUE = "queue max-size-time=0 max-size-buffers=0 max-size-bytes=268435456"


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def quoted(value):
    """As a property in a launch line."""
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def uri_of(source):
    """URI, and whether it is live."""
    if source == "camera":
        return "v4l2:///dev/video0", True
    if source.startswith("/dev/"):
        return "v4l2://" + source, True
    if "://" in source:
        return source, not source.startswith("file:")
    path = pathlib.Path(source)
    if not path.is_file():
        raise SystemExit(f"live-captions: {source}: no such file; cameras are camera, /dev/videoN or a URI such as rtsp://")
    return path.resolve().as_uri(), False


def running_time(pad, time_):
    return pad.get_sticky_event(Gst.EventType.SEGMENT, 0).parse_segment().to_running_time(Gst.Format.TIME, time_) / Gst.SECOND


# ---------------------------------------------------------------- output ----------------------

def frames_format(given):
    """One size and rate for all that comes: recordings cannot change them."""
    return (f"video/x-raw,format=I420,width={given.size[0]},height={given.size[1]},framerate={given.rate}/1,"
            "pixel-aspect-ratio=1/1,interlace-mode=progressive")


def output_line(given, source):
    """The launch line from frames to everything that was asked for."""
    settings = {"interval": given.interval and int(given.interval * Gst.SECOND), "prompt": given.prompt,
                "model-location": given.model}
    words = " ".join(f"{name}={quoted(value)}" for name, value in settings.items() if value is not None)
    parts = [f"{source} ! videoconvert ! videoscale ! videorate ! {frames_format(given)} ! glm4vdescribe name=d {words} "
             "! tee name=video"]
    if given.screen:
        parts += [f"video. ! queue ! textoverlay name=screen ! videoconvert ! {given.screen}", "text. ! queue ! screen.text_sink"]
    if given.mp4 or given.mkv or given.hls:
        keyframes = round(given.segment * given.rate)
        parts.append(f"video. ! queue ! x264enc tune=zerolatency key-int-max={keyframes} option-string=scenecut=0 "
                     f"bitrate={given.bitrate} ! video/x-h264,profile=main ! h264parse ! tee name=coded")
    for path, muxer in ((given.mp4, "mp4mux"), (given.mkv, "matroskamux")):
        if path:
            parts += [f"coded. ! {LONG_QUEUE} ! {muxer} name={muxer} ! filesink location={quoted(path)}",
                      f"text. ! queue ! {muxer}.subtitle_0"]
    if given.hls:
        parts += ["coded. ! queue ! mp4mux fragment-duration=4000000 streamable=true "  # longer than any segment
                  "! fakesink name=segments signal-handoffs=true async=false",
                  "text. ! queue ! fakesink name=captions signal-handoffs=true async=false"]
    if given.json:
        parts.append(f"d.json ! queue ! filesink location={quoted(given.json)} buffer-mode=unbuffered")
    if any(part.startswith("text.") for part in parts):
        parts.append("d.text ! tee name=text")
    parts.append("video. ! queue ! fakesink")  # a tee without a branch would be an error
    return "  ".join(parts)


def connect_hls(pipeline, writer):
    """Bytes, captions and GAPs to the writer, on streaming threads."""
    def on_first_frame(pad, info):
        writer.begin_at(running_time(pad, info.get_buffer().pts))
        return Gst.PadProbeReturn.REMOVE

    def on_bytes(_, buffer, __):
        writer.add_video(buffer.extract_dup(0, buffer.get_size()))

    def on_caption(_, buffer, pad):
        begin = running_time(pad, buffer.pts)
        text = buffer.extract_dup(0, buffer.get_size()).decode()
        writer.add_caption(begin, begin + buffer.duration / Gst.SECOND, text)

    def on_event(pad, info):
        event = info.get_event()
        if event.type == Gst.EventType.GAP:
            begin, duration = event.parse_gap()
            writer.add_gap(running_time(pad, begin + duration))
        return Gst.PadProbeReturn.OK

    pipeline.get_by_name("d").get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, on_first_frame)
    pipeline.get_by_name("segments").connect("handoff", on_bytes)
    captions = pipeline.get_by_name("captions")
    captions.connect("handoff", on_caption)
    captions.get_static_pad("sink").add_probe(Gst.PadProbeType.EVENT_DOWNSTREAM, on_event)


# ---------------------------------------------------------------- input of a live source ------

class LiveInput:
    """A pipeline of its own for the camera, made again whenever it fails. intervideosink hands its frames over; while
    there are none the element is told to describe nothing."""

    def __init__(self, uri, given, describer):
        self.uri, self.format, self.timeout = uri, frames_format(given), given.timeout
        self.describer, self.given = describer, given
        self.pipeline, self.opened, self.first, self.latest = None, 0.0, 0.0, 0.0
        self.pause, self.there = FIRST_PAUSE, False
        self.describe(False)
        self.open()
        GLib.timeout_add(100, self.look)

    def describe(self, wanted):
        self.describer.set_property("sample-mode", "auto" if wanted else "trigger")

    def open(self):
        self.pipeline = Gst.parse_launch(
            f"uridecodebin name=source expose-all-streams=false ! videoconvert name=frames ! videoscale ! videorate "
            f"! {self.format} ! intervideosink channel=live-captions sync=false")
        source = self.pipeline.get_by_name("source")
        source.set_property("caps", Gst.Caps.from_string("video/x-raw(ANY)"))  # sound is not decoded
        source.set_property("uri", self.uri)
        self.pipeline.get_by_name("frames").get_static_pad("sink").add_probe(Gst.PadProbeType.BUFFER, self.on_frame)
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", lambda _, message: self.lose(message.parse_error()[0].message))
        bus.connect("message::eos", lambda _, __: self.lose("the stream ended"))
        self.opened = time.monotonic()
        self.pipeline.set_state(Gst.State.PLAYING)  # a failure is posted on the bus
        return GLib.SOURCE_REMOVE

    def on_frame(self, *_):
        """Runs on a streaming thread."""
        self.latest = time.monotonic()
        if self.first < self.opened:
            self.first = self.latest
        return Gst.PadProbeReturn.OK

    def close(self):
        if self.pipeline:
            self.pipeline.get_bus().remove_signal_watch()
            self.pipeline.set_state(Gst.State.NULL)
            self.pipeline = None

    def lose(self, why):
        if not self.pipeline:
            return  # of two messages the first has closed it
        self.close()
        self.describe(False)
        self.there = False
        say(f"camera  lost: {why}; again in {self.pause} s")
        GLib.timeout_add(self.pause * 1000, self.open)
        self.pause = min(2 * self.pause, LAST_PAUSE)

    def look(self):
        """No element reports a camera that just stops sending."""
        if self.pipeline:
            silent = time.monotonic() - max(self.latest, self.opened)
            fresh = self.first > self.opened and self.latest - self.first > FRESH and silent < FRESH
            if fresh and not self.there:
                say("camera  connected")
                self.pause = FIRST_PAUSE
            if fresh != self.there:
                self.there = fresh
                self.describe(fresh)
            if silent > self.timeout:
                self.lose(f"no frame for {self.timeout} s")
        return GLib.SOURCE_CONTINUE


# ---------------------------------------------------------------- program ---------------------

def print_result(result):
    ok = result.get_string("status") == "ok"
    if ok or result.has_field("message"):
        _, at = result.get_uint64("running-time")
        word = "caption" if ok else result.get_string("status")
        say(f"{word:8}{hls.clock(at / Gst.SECOND)}  {result.get_string('text' if ok else 'message')}")


def size(text):
    width, cross, height = text.partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()) or not (16 <= int(width) <= 4096 and 16 <= int(height) <= 4096):
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 640x360, of 16 to 4096 pixels")
    if int(width) % 2 or int(height) % 2:
        raise argparse.ArgumentTypeError(f"{text!r}: width and height must be even")
    return int(width), int(height)


def between(kind, least, most):
    def number(text):
        try:
            value = kind(fractions.Fraction(text))
        except (ValueError, ZeroDivisionError):
            value = None
        if value is None or not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not from {least} to {most}")
        return value
    return number


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="SOURCE", help="file, camera, /dev/videoN or URI")
    parser.add_argument("--screen", nargs="?", const="autovideosink", metavar="SINK",
                        help="show captions on the picture; SINK: launch line of another sink")
    parser.add_argument("--mp4", metavar="FILE", help="record, captions as a tx3g track; complete only after the end")
    parser.add_argument("--mkv", metavar="FILE", help="record, captions as a text track")
    parser.add_argument("--hls", metavar="DIR", help="HLS with WebVTT, and index.html that plays it")
    parser.add_argument("--json", metavar="FILE", help="each result as a line (docs/result.schema.json)")
    parser.add_argument("--prompt", metavar="TEXT", help="default: that of the element")
    parser.add_argument("--model", metavar="DIR", help="default: the shipped model")
    parser.add_argument("--interval", type=between(float, 0.04, 3600), metavar="SECONDS",
                        help="between captions; default: as long as one takes to read")
    parser.add_argument("--size", type=size, default=(640, 360), metavar="WxH", help="of everything; default: 640x360")
    parser.add_argument("--rate", type=between(int, 1, 60), default=15, metavar="FPS", help="default: 15")
    parser.add_argument("--bitrate", type=between(int, 50, 50000), default=1500, metavar="KBIT", help="kbit/s; default: 1500")
    parser.add_argument("--segment", type=between(float, 1, 60), default=2.0, metavar="SECONDS", help="of HLS; default: 2")
    parser.add_argument("--window", type=between(int, 0, 100000), default=0, metavar="N",
                        help="keep so many HLS segments; default: 0, all")
    parser.add_argument("--timeout", type=between(float, 1, 3600), default=10.0, metavar="SECONDS",
                        help="without a frame a camera has failed; default: 10")
    given = parser.parse_args()
    if given.window == 1 or given.window == 2:
        parser.error("--window: players need at least 3 segments")
    if not (given.screen or given.mp4 or given.mkv or given.hls or given.json):
        parser.error("nothing to do: give --screen, --mp4, --mkv, --hls or --json")
    return given


class Program:
    def __init__(self, given):
        uri, live = uri_of(given.source)
        self.loop, self.status = GLib.MainLoop(), 0
        source = "intervideosrc channel=live-captions" if live else "uridecodebin name=file expose-all-streams=false"
        try:
            self.pipeline = Gst.parse_launch(output_line(given, source))
        except GLib.Error as error:
            raise SystemExit(f"live-captions: {error.message}") from error
        if not live:
            file = self.pipeline.get_by_name("file")
            file.set_property("caps", Gst.Caps.from_string("video/x-raw(ANY)"))
            file.set_property("uri", uri)
        self.writer = None
        if given.hls:
            self.writer = hls.Writer(given.hls, given.segment, given.window)
            shutil.copyfile(HERE / "index.html", pathlib.Path(given.hls) / "index.html")
            connect_hls(self.pipeline, self.writer)
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message", self.on_message)
        self.input = LiveInput(uri, given, self.pipeline.get_by_name("d")) if live else None

    def on_message(self, _, message):
        if message.type == Gst.MessageType.EOS:
            self.loop.quit()
        elif message.type == Gst.MessageType.ERROR:
            self.fail(message.parse_error()[0].message)
        elif message.has_name("glm4vdescribe-result"):
            print_result(message.get_structure())

    def fail(self, why):
        sys.stderr.write(f"live-captions: {why}\n")
        self.status = 1
        self.loop.quit()

    def on_signal(self):
        """The end of the stream closes the files; it waits in queues, so not on this thread. The second signal does
        not wait."""
        if self.input:
            self.input.close()
        threading.Thread(target=self.pipeline.send_event, args=(Gst.Event.new_eos(),), daemon=True).start()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        return GLib.SOURCE_REMOVE

    def run(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, number, self.on_signal)
        self.pipeline.set_state(Gst.State.PLAYING)
        self.loop.run()
        if self.input:
            self.input.close()
        self.pipeline.set_state(Gst.State.NULL)
        if self.writer:
            self.writer.close()
            if self.writer.late:
                sys.stderr.write(f"live-captions: {self.writer.late} captions came too late for their segments\n")
        return self.status


if __name__ == "__main__":
    Gst.init(None)
    sys.exit(Program(parse_arguments()).run())
