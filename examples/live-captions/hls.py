# SPDX-License-Identifier: LGPL-2.1-or-later
"""HLS with captions: fragments of mp4mux become video segments, captions become WebVTT segments of the same times.

hlssink2 of GStreamer 1.22 has no text pad and writes MPEG-TS, which browsers play only with a converter in JavaScript.
Here mp4mux writes fragmented MP4, cut at the fragments, so that index.html can hand each segment to Media Source
Extensions as it is. In the folder:
    main.m3u8                      names the two playlists
    video.m3u8 init.mp4 video*.m4s the video (RFC 8216, EXT-X-MAP)
    text.m3u8 text*.vtt            the captions; a cue that lasts over a boundary is in both segments
Files appear whole: they are written under another name and renamed. Times are seconds since the first video frame.
"""
import html
import math
import os
import pathlib
import struct
import threading


class FormatError(ValueError):
    """The stream is no fragmented MP4 of one H.264 track."""


def boxes(data, begin=0, end=None):
    """(type, begin of the content, end) of the MP4 boxes that lie whole in data[begin:end]."""
    end = len(data) if end is None else end
    while end - begin >= 8:
        size, kind = struct.unpack_from(">I4s", data, begin)
        head = 8
        if size == 1 and end - begin >= 16:
            size, head = struct.unpack_from(">Q", data, begin + 8)[0], 16
        if size < head and size != 1:
            raise FormatError(f"MP4 box {kind!r} has the size {size}")
        if begin + size > end or size == 1:
            return
        yield kind, begin + head, begin + size
        begin += size


def find(data, path, begin=0, end=None):
    """Content of the box at a path such as b"moov/trak/mdia/mdhd": (begin, end)."""
    for kind in path.split(b"/"):
        place = next(((first, last) for name, first, last in boxes(data, begin, end) if name == kind), None)
        if place is None:
            raise FormatError(f"no MP4 box {path.decode()}")
        begin, end = place
    return begin, end


def timescale_of(moov):
    begin, _ = find(moov, b"moov/trak/mdia/mdhd")
    return struct.unpack_from(">I", moov, begin + (20 if moov[begin] else 12))[0]


def description_of(moov):
    """Codec as RFC 6381 names it, width and height."""
    begin, end = find(moov, b"moov/trak/mdia/minf/stbl/stsd")
    begin, end = find(moov, b"avc1", begin + 8, end)
    width, height = struct.unpack_from(">HH", moov, begin + 24)
    begin, _ = find(moov, b"avcC", begin + 78, end)
    return f"avc1.{moov[begin + 1:begin + 4].hex()}", width, height


def times_of(moof):
    """Begin and duration of a fragment, in units of the track."""
    begin, end = find(moof, b"moof/traf")
    first, _ = find(moof, b"tfdt", begin, end)
    start = struct.unpack_from(">Q" if moof[first] else ">I", moof, first + 4)[0]
    first, _ = find(moof, b"tfhd", begin, end)
    flags = struct.unpack_from(">I", moof, first)[0] & 0xffffff
    default = first + 8 + 8 * bool(flags & 1) + 4 * bool(flags & 2)
    first, _ = find(moof, b"trun", begin, end)
    run, count = struct.unpack_from(">II", moof, first)
    run &= 0xffffff
    if not run & 0x100:
        if not flags & 8:
            raise FormatError("a fragment without durations")
        return start, count * struct.unpack_from(">I", moof, default)[0]
    at = first + 8 + 4 * bool(run & 1) + 4 * bool(run & 4)
    step = 4 * sum(bool(run & bit) for bit in (0x100, 0x200, 0x400, 0x800))
    return start, sum(struct.unpack_from(">I", moof, at + i * step)[0] for i in range(count))


class Fragments:
    """Bytes of a fragmented MP4 as they come -> its header, then (begin, duration, bytes) of each fragment."""

    def __init__(self):
        self.data, self.header, self.timescale, self.moof = bytearray(), bytearray(), 0, b""

    def feed(self, data):
        """The fragments that these bytes complete."""
        self.data += data
        done = 0
        found = []
        for kind, _, end in boxes(self.data):
            box = bytes(self.data[done:end])
            done = end
            if kind in (b"ftyp", b"moov") and not self.timescale:
                self.header += box
                if kind == b"moov":
                    self.timescale = timescale_of(box)
            elif kind == b"moof":
                self.moof = box
            elif kind == b"mdat" and self.moof:
                begin, duration = times_of(self.moof)
                found.append((begin / self.timescale, duration / self.timescale, self.moof + box))
                self.moof = b""
        del self.data[:done]
        return found


def clock(seconds):
    milliseconds = max(0, round(seconds * 1000))
    return (f"{milliseconds // 3600000:02}:{milliseconds // 60000 % 60:02}:{milliseconds // 1000 % 60:02}."
            f"{milliseconds % 1000:03}")


def webvtt(cues, begin, end):
    """A segment: all cues that are shown between two times, with their whole times."""
    lines = ["WEBVTT", "X-TIMESTAMP-MAP=LOCAL:00:00:00.000,MPEGTS:0", ""]
    for first, last, text in cues:
        if first < end and last > begin:
            lines += [f"{clock(first)} --> {clock(last)}", html.escape(text, quote=False), ""]
    return "\n".join(lines) + "\n"


class Writer:
    """Video and captions come from two threads. A segment is published when all captions up to its end are known, at
    the latest when the next one is complete."""

    def __init__(self, folder, segment, window=0):
        """segment: seconds; window: so many segments stay in the playlists and the folder, 0 = all."""
        self.folder, self.target, self.window = pathlib.Path(folder), math.ceil(segment), window
        self.folder.mkdir(parents=True, exist_ok=True)
        self.lock = threading.Lock()
        self.fragments = Fragments()
        self.origin = None      # running time of the first frame
        self.waiting = []       # (begin, duration, bytes), complete but not published
        self.published = []     # (number, duration)
        self.end = 0.0          # of the last published segment
        self.number = self.peak = 0
        self.cues, self.known = [], 0.0
        self.late = 0           # cues that came after their segments were published, and were not shown

    def begin_at(self, running_time):
        """Before anything else: the running time of the first frame."""
        with self.lock:
            self.origin = running_time

    def add_video(self, data):
        with self.lock:
            self.waiting += self.fragments.feed(data)
            self.publish(len(self.waiting) - 1)

    def add_caption(self, begin, end, text):
        """Running times. What of it lies in published segments is lost; a cue that lies there whole is counted."""
        with self.lock:
            begin, end = begin - self.origin, end - self.origin
            if end <= self.end:
                self.late += 1
            else:
                self.cues.append((max(begin, self.end), end, text))
            self.know(begin)

    def add_gap(self, until):
        """No caption will come for a time before this one."""
        with self.lock:
            if self.origin is not None:  # the first GAP says that nothing is known yet
                self.know(until - self.origin)

    def know(self, until):
        self.known = max(self.known, until)
        self.publish(len(self.waiting) - 1)

    def close(self):
        """The stream has ended: all that waits is published, and the playlists say that nothing follows."""
        with self.lock:
            self.publish(len(self.waiting))
            if self.published:
                self.write_playlists("#EXT-X-ENDLIST\n")

    def publish(self, at_least):
        """The segments whose captions are known, and the first at_least ones."""
        count = 0
        while self.waiting and (count < at_least or self.known >= self.waiting[0][0] + self.waiting[0][1]):
            self.publish_segment(*self.waiting.pop(0))
            count += 1
        if count:
            self.write_playlists()

    def publish_segment(self, begin, duration, data):
        if not self.number:
            self.write("init.mp4", bytes(self.fragments.header))
        self.end = begin + duration
        self.write(f"video{self.number:05}.m4s", data)
        self.write(f"text{self.number:05}.vtt", webvtt(self.cues, begin, self.end).encode())
        self.cues = [cue for cue in self.cues if cue[1] > self.end]
        self.published.append((self.number, duration))
        self.number += 1
        peak = math.ceil(8 * len(data) / duration)
        if peak > self.peak:
            self.peak = peak
            self.write_main()

    def write_main(self):
        codec, width, height = description_of(bytes(self.fragments.header))
        self.write("main.m3u8", (
            "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n"
            '#EXT-X-MEDIA:TYPE=SUBTITLES,GROUP-ID="text",NAME="Descriptions",DEFAULT=YES,AUTOSELECT=YES,URI="text.m3u8"\n'
            f'#EXT-X-STREAM-INF:BANDWIDTH={self.peak},CODECS="{codec}",RESOLUTION={width}x{height},SUBTITLES="text"\n'
            "video.m3u8\n").encode())

    def write_playlists(self, tail=""):
        old = self.published[:-self.window] if self.window else []
        if old:
            self.published = self.published[-self.window:]
        head = (f"#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{self.target}\n"
                f"#EXT-X-MEDIA-SEQUENCE:{self.published[0][0]}\n")
        if not self.window:
            head += "#EXT-X-PLAYLIST-TYPE:EVENT\n"
        for name, suffix, extra in (("text", "vtt", ""), ("video", "m4s", '#EXT-X-MAP:URI="init.mp4"\n')):
            entries = "".join(f"#EXTINF:{duration:.5f},\n{name}{number:05}.{suffix}\n" for number, duration in self.published)
            self.write(f"{name}.m3u8", (head + extra + entries + tail).encode())
        for number, _ in old:
            # A client may still be reading from an earlier playlist: files stay for a second window.
            for name in (f"video{number - self.window:05}.m4s", f"text{number - self.window:05}.vtt"):
                if number >= self.window:
                    (self.folder / name).unlink(missing_ok=True)

    def write(self, name, data):
        part = self.folder / (name + ".part")
        part.write_bytes(data)
        os.replace(part, self.folder / name)
