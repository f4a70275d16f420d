#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Still and animated pictures as glm4v describe sees them: dump-frames prints the pixels that the model would get.

Lossless files are compared with the pixels that the test made them from, JPEG with what Pillow decodes.
"""
import base64
import io
import itertools
import os
import random
import resource
import shutil
import struct
import subprocess
import tempfile
import zlib

from common import BUILD, GLM4V, HTTP_LEAKS, SLOW, SOURCE, Skip, check, environment, good, main, results_of, run, tiny_model

try:
    from PIL import Image, ImageOps
except ImportError:
    Image = None

DUMP = BUILD / "tests" / "pipeline" / "dump-frames"
WIDTH, HEIGHT = 23, 19
BASE = tempfile.mkdtemp(prefix="glm4v-pictures-")


def dump(*words, stdin=subprocess.DEVNULL, **options):
    """Frames of an input as (width, height, pts, rgb), the exit status, and what was said."""
    env = environment(**(HTTP_LEAKS if str(words[0]).startswith("http:") else {}))
    done = subprocess.run([DUMP, *words], capture_output=True, timeout=60 * SLOW, stdin=None if "input" in options else stdin,
                          env=env, check=False, **options)
    return frames_of(done.stdout), done.returncode, done.stderr.decode(errors="replace")


def frames_of(rest):
    frames = []
    while rest:
        line, _, rest = rest.partition(b"\n")
        width, height, pts = map(int, line.split())
        frames.append((width, height, pts, rest[:3 * width * height]))
        rest = rest[3 * width * height:]
    return frames


def pixels(path, **options):
    """Those of a still picture, in rows of (r, g, b)."""
    frames, status, said = dump(path, **options)
    check(status == 0 and len(frames) == 1, path, status, said)
    width, height, pts, rgb = frames[0]
    check(pts == -1, "a still has no time", pts)
    values = [tuple(rgb[i:i + 3]) for i in range(0, len(rgb), 3)]
    return [values[y * width:(y + 1) * width] for y in range(height)]


def refused(said, *words, **options):
    frames, status, text = dump(*words, **options)
    check(status == 1 and not frames and said in text, words, "gave", len(frames), status, text)


def need_pillow():
    if not Image:
        raise Skip("Pillow is not installed (python3-pil)")


def noise(channels, bits=8, seed=1, width=WIDTH, height=HEIGHT):
    """Rows of tuples."""
    values = random.Random(seed)
    return [[tuple(values.getrandbits(bits) for _ in range(channels)) for _ in range(width)] for _ in range(height)]


def mapped(rows, function):
    return [[function(*pixel) for pixel in row] for row in rows]


def on_white(r, g, b, a):
    return tuple(255 - a + (c * a + 127) // 255 for c in (r, g, b))


def png(path, rows, color_type, bits, interlaced=False, palette=None, transparent=None):
    """A PNG written by hand, each line by the filter that changes nothing."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    def lines(part):
        for row in part:
            text = "".join(format(value, f"0{bits}b") for pixel in row for value in pixel)
            text += "0" * (-len(text) % 8)
            yield b"\0" + int(text, 2).to_bytes(len(text) // 8, "big")

    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    raw = b"".join(itertools.chain.from_iterable(
        lines([row[x::dx] for row in rows[y::dy]]) for y, x, dy, dx in (passes if interlaced else [(0, 0, 1, 1)])))
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", len(rows[0]), len(rows), bits, color_type, 0, 0,
                                                            interlaced))
    for name, extra in ((b"PLTE", palette), (b"tRNS", transparent)):
        data += chunk(name, extra) if extra else b""
    data += chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    path.write_bytes(data)
    return path


def png_of_every_kind_is_read_to_the_bit(folder):
    path = folder / "a.png"
    for interlaced in (False, True):
        for bits in (8, 16):
            high = [lambda *pixel: pixel, lambda *pixel: tuple(value >> 8 for value in pixel)][bits == 16]
            for channels, color_type in ((3, 2), (1, 0), (4, 6), (2, 4)):
                rows = noise(channels, bits, seed=channels)
                expected = mapped(rows, high)
                if channels < 3:
                    expected = mapped(expected, lambda v, *a: (v, v, v, *a))
                if channels in (2, 4):
                    expected = mapped(expected, on_white)
                check(pixels(png(path, rows, color_type, bits, interlaced)) == expected, bits, channels, interlaced)
        for bits in (1, 2, 4, 8):
            rows = noise(1, bits)
            grey = mapped(rows, lambda v, most=2 ** bits - 1: (v * 255 // most,) * 3)
            check(pixels(png(path, rows, 0, bits, interlaced)) == grey, "grey", bits, interlaced)
            colors = [random.Random(n).randbytes(3) for n in range(2 ** bits)]
            palette = b"".join(colors)
            expected = mapped(rows, lambda v, c=colors: tuple(c[v]))
            check(pixels(png(path, rows, 3, bits, interlaced, palette)) == expected, "palette", bits, interlaced)
            expected = mapped(rows, lambda v, c=colors: (255, 255, 255) if v == 0 else on_white(*c[v], 128) if v == 1
                              else tuple(c[v]))
            check(pixels(png(path, rows, 3, bits, interlaced, palette, b"\0\x80")) == expected, "tRNS", bits, interlaced)
    rows = noise(3, 16)
    rows[0][0] = (1, 2, 3)
    expected = mapped(rows, lambda *pixel: (255, 255, 255) if pixel == (1, 2, 3) else tuple(v >> 8 for v in pixel))
    check(pixels(png(path, rows, 2, 16, transparent=struct.pack(">HHH", 1, 2, 3))) == expected, "a transparent colour")


def image(rows):
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[len(rows[0][0])]
    made = Image.new(mode, (len(rows[0]), len(rows)))
    made.putdata([pixel if len(pixel) > 1 else pixel[0] for row in rows for pixel in row])
    return made


def saved(folder, name, rows, **options):
    (image(rows) if isinstance(rows, list) else rows).save(folder / name, **options)
    return folder / name


def rgb_rows(picture):
    data = picture.convert("RGB").tobytes()
    values = [tuple(data[i:i + 3]) for i in range(0, len(data), 3)]
    return [values[y * picture.width:(y + 1) * picture.width] for y in range(picture.height)]


def other_lossless_formats_are_read_to_the_bit(folder):
    need_pillow()
    rgb, rgba, grey = noise(3), noise(4), noise(1)
    white, spread = mapped(rgba, on_white), mapped(grey, lambda v: (v, v, v))
    palette = image(rgb).convert("P", palette=Image.Palette.ADAPTIVE)
    black = image(grey).convert("1")
    options = {"tif": [{}, {"compression": "tiff_lzw"}, {"compression": "tiff_deflate"}, {"compression": "packbits"}],
               "tga": [{}, {"compression": "tga_rle"}], "webp": [{"lossless": True, "exact": True}],
               "ico": [{"sizes": [(WIDTH, HEIGHT)]}, {"sizes": [(WIDTH, HEIGHT)], "bitmap_format": "bmp"}]}
    for kind in ("bmp", "tif", "tga", "ico", "webp", "ppm"):
        for how in options.get(kind, [{}]):
            check(pixels(saved(folder, "a." + kind, rgb, **how)) == rgb, kind, how)
            if kind not in ("ppm", "bmp"):
                check(pixels(saved(folder, "a." + kind, rgba, **how)) == white, kind, how, "with alpha")
            if kind not in ("ico", "webp"):
                check(pixels(saved(folder, "a." + kind, grey, **how)) == spread, kind, how, "grey")
            if kind in ("bmp", "tif", "tga"):
                check(pixels(saved(folder, "a." + kind, palette, **how)) == rgb_rows(palette), kind, how, "palette")
            if kind in ("bmp", "tif", "ppm"):
                check(pixels(saved(folder, "a." + kind, black, **how)) == rgb_rows(black), kind, how, "black and white")
    check(pixels(saved(folder, "a.gif", palette)) == rgb_rows(palette), "gif")
    check(pixels(saved(folder, "a.gif", palette, transparency=7)) ==
          [[(255, 255, 255) if index == 7 else color for index, color in zip(*both)]
           for both in zip([list(palette.crop((0, y, WIDTH, y + 1)).getdata()) for y in range(HEIGHT)],
                           rgb_rows(palette))], "gif with transparency")


def tiff(path, rows, bits, extra=None, order="<", planar=False):
    """An uncompressed TIFF written by hand. extra: what the last sample means, 1 or 2 = alpha."""
    samples, code = len(rows[0][0]), {8: "B", 16: "H", 32: "f"}[bits]
    values = [value for row in rows for pixel in row for value in pixel]
    if planar:
        values = [value for n in range(samples) for value in values[n::samples]]
    data = struct.pack(f"{order}{len(values)}{code}", *values)
    n = len(rows) * len(rows[0]) * bits // 8 * (1 if planar else samples)
    tags = {256: [len(rows[0])], 257: [len(rows)], 258: [bits] * samples, 259: [1], 262: [2 if samples > 2 else 1],
            273: [8 + i * n for i in range(samples)] if planar else [8], 277: [samples], 278: [len(rows)],
            279: [n] * (samples if planar else 1), 284: [2 if planar else 1], 339: [3 if bits == 32 else 1] * samples}
    if extra is not None:
        tags[338] = [extra]
    at = 8 + len(data)
    end, entries, tail = at + 2 + 12 * len(tags) + 4, b"", b""
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(packed) > 4:
            packed, tail = struct.pack(order + "I", end + len(tail)), tail + packed
        entries += struct.pack(order + "HHI", tag, 4, len(values)) + packed
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", at)
    path.write_bytes(head + data + struct.pack(order + "H", len(tags)) + entries + bytes(4) + tail)
    return path


def tiff_of_16_bits_alpha_and_planes_is_read_to_the_bit(folder):
    path = folder / "a.tif"
    for order, planar in itertools.product("<>", (False, True)):
        for channels in (1, 3):
            rows = noise(channels, 16)
            expected = mapped(rows, lambda *pixel: tuple(v >> 8 for v in pixel) * (3 // len(pixel)))
            check(pixels(tiff(path, rows, 16, order=order, planar=planar)) == expected, order, planar, channels)
        rows = noise(4)
        check(pixels(tiff(path, rows, 8, 2, order, planar)) == mapped(rows, on_white), "straight alpha", order, planar)
        check(pixels(tiff(path, rows, 8, 0, order, planar)) == mapped(rows, lambda r, g, b, _: (r, g, b)), "no alpha")
        rows = mapped(rows, lambda r, g, b, a: (r * a // 255, g * a // 255, b * a // 255, a))
        check(pixels(tiff(path, rows, 8, 1, order, planar)) ==
              mapped(rows, lambda r, g, b, a: (r + 255 - a, g + 255 - a, b + 255 - a)), "multiplied alpha")
    rows = mapped(noise(3), lambda *pixel: tuple(v / 255 for v in pixel))
    refused("TIFF picture that is not supported", tiff(path, rows, 32))


def turned(rows, orientation):
    if orientation > 4:
        rows = [list(column) for column in zip(*rows)]
    if orientation in (2, 3, 6, 7):
        rows = [row[::-1] for row in rows]
    return rows[::-1] if orientation in (3, 4, 7, 8) else rows


def the_orientation_in_exif_is_undone(folder):
    need_pillow()
    rows = noise(3)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x112] = orientation
        expected = turned(rows, orientation)
        check(pixels(saved(folder, "a.png", rows, exif=exif)) == expected, "png", orientation)
        check(pixels(saved(folder, "a.webp", rows, exif=exif, lossless=True)) == expected, "webp", orientation)
        check(pixels(saved(folder, "a.tif", rows, tiffinfo={0x112: orientation})) == expected, "tif", orientation)
        saved(folder, "plain.jpg", rows)
        check(pixels(saved(folder, "a.jpg", rows, exif=exif)) == turned(pixels(folder / "plain.jpg"), orientation), orientation)
    for broken in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08"):
        check(pixels(saved(folder, "a.jpg", rows, exif=broken)) == pixels(folder / "plain.jpg"), broken)


def smooth():
    return [[(x * 11, y * 13, (x + y) * 6) for x in range(WIDTH)] for y in range(HEIGHT)]


def jpeg_is_decoded_as_pillow_does(folder):
    """Both use libjpeg on Debian, and give the same bytes; another build of it may round otherwise."""
    need_pillow()
    for name, picture, how in (("baseline", image(smooth()), {}), ("noise", image(noise(3)), {}),
                               ("4:4:4", image(noise(3)), {"subsampling": 0}), ("grey", image(noise(1)), {}),
                               ("progressive", image(smooth()), {"progressive": True}),
                               ("cmyk", image(smooth()).convert("CMYK"), {}),
                               ("ycck", image(smooth()).convert("CMYK"), {"quality": 95})):
        path = saved(folder, "a.jpg", picture, **how)
        if name == "ycck":  # the Adobe marker's transform
            data = bytearray(path.read_bytes())
            at = data.index(b"Adobe")
            check(data[at + 11] == 0, "Pillow writes CMYK otherwise")
            data[at + 11] = 2
            path.write_bytes(data)
        expected = rgb_rows(Image.open(path))
        worst = max(abs(a - b) for rows in zip(pixels(path), expected) for pair in zip(*rows) for a, b in zip(*pair))
        check(worst <= 2, name, "differs by", worst)


def sample_files(folder):
    """One of each format, and for each the bytes at its end that hold no pixels."""
    rows = noise(3)
    big = image(noise(3, width=64, height=64))
    yield saved(folder, "a.jpg", big), 0
    yield saved(folder, "b.jpg", big, progressive=True), 0
    yield saved(folder, "cmyk.jpg", big.convert("CMYK")), 0
    yield saved(folder, "a.png", rows), 0
    yield saved(folder, "a.tif", rows), 0
    yield saved(folder, "b.tif", rows, compression="tiff_lzw"), 0
    yield saved(folder, "c.tif", rows, compression="jpeg"), 0
    yield saved(folder, "a.bmp", rows), 1
    yield saved(folder, "b.bmp", image(rows).convert("P")), 1
    yield saved(folder, "a.tga", rows), 26
    yield saved(folder, "b.tga", rows, compression="tga_rle"), 26
    yield saved(folder, "a.ico", rows, sizes=[(WIDTH, HEIGHT)]), 0
    yield saved(folder, "b.ico", rows, sizes=[(WIDTH, HEIGHT)], bitmap_format="bmp"), 0
    yield saved(folder, "a.gif", image(rows).convert("P")), 1
    yield saved(folder, "a.webp", rows, lossless=True), 0
    yield saved(folder, "b.webp", big), 0
    yield saved(folder, "a.ppm", rows), 0


def files_that_are_cut_short_are_refused(folder):
    need_pillow()
    for path, tail in sample_files(folder):
        pixels(path)
        whole = path.read_bytes()
        size = len(whole) - tail
        for length in (size - 1, size * 9 // 10, size // 2, size // 3, size // 8)[::1 if SLOW == 1 else 3]:
            path.write_bytes(whole[:length])
            refused("damaged or cut short", path)
    jpeg = folder / "a.jpg"
    saved(folder, "a.jpg", image(noise(3, width=64, height=64)))
    whole = bytearray(jpeg.read_bytes())
    whole[-600:-300] = b"\xff\xd9" * 150  # its end, in the middle of its data
    jpeg.write_bytes(whole)
    refused("the JPEG picture is damaged or cut short", jpeg)
    picture = bytearray(png(folder / "a.png", noise(3), 2, 8).read_bytes())
    picture[60] ^= 1
    (folder / "a.png").write_bytes(picture)
    refused("the PNG picture is damaged or cut short", folder / "a.png")


def damaged_files_end_in_an_error_or_a_picture(folder):
    """Never in a crash, a hang or words of one library on stderr."""
    need_pillow()
    chance = random.Random(7)
    for path, _ in sample_files(folder):
        whole = path.read_bytes()
        for _ in range(12 if SLOW == 1 else 2):
            data = bytearray(whole)
            for _ in range(chance.choice((1, 3, 20))):
                data[chance.randrange(len(data))] = chance.randrange(256)
            path.write_bytes(data)
            frames, status, said = dump(path)
            check(status in (0, 1) and bool(frames) == (status == 0) and len(said.splitlines()) == status, path, status, said)


def headers(width, height):
    """The beginning of files that call themselves so large."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    yield "a.png", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + \
        chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    yield "a.bmp", b"BM" + struct.pack("<IIIIiiHHIIIIII", 1000, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(946)
    if width < 65536:
        yield "a.gif", b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6) + b"," + \
            struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x01\x44\x00;"
        yield "a.tga", struct.pack("<BBBHHBHHHHBB", 0, 0, 2, 0, 0, 0, 0, 0, width, height, 24, 0) + bytes(1000)
        yield "a.jpg", b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 11, 8, height, width, 1) + b"\x01\x11\x00" + \
            b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + bytes(1000)
    yield "a.ppm", b"P6\n%d %d\n255\n" % (width, height) + bytes(1000)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in
                       ((256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, height),
                        (279, 1000)))
    yield "a.tif", b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 9) + entries + bytes(1004)


def a_picture_of_hostile_size_is_refused_before_memory_is_taken(folder):
    def bounded():  # what one of those pictures would take is three times as much
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    for width, height in ((60000, 60000), (16000, 16000), (16385, 1), (1, 60001)):
        for name, data in headers(width, height):
            path = folder / name
            path.write_bytes(data)
            refused(f"the picture is {width}x{height}, larger than 16384x16384 or 128 Mpixels", path,
                    preexec_fn=bounded if SLOW == 1 else None)
    for width, height in ((0, 5), (5, 0)):
        for name, data in headers(width, height):
            (folder / name).write_bytes(data)
            refused("", folder / name)
    bomb = folder / "a.webp"
    bomb.write_bytes(b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff" * 6 + bytes(8))
    refused("", bomb)


def pictures_that_are_not_supported_are_named(folder):
    for name, data in (("a.psd", b"8BPS\0\1"), ("a.svg", b"<?xml version='1.0'?><svg/>"), ("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n"),
                       ("a.xcf", b"gimp xcf v011"), ("a.exr", b"\x76\x2f\x31\x01"), ("a.pdf", b"%PDF-1.7"), ("a.qoi", b"qoif")):
        (folder / name).write_bytes(data + bytes(100))
        refused("which is not supported: convert it to PNG", folder / name)
    (folder / "a.psd").write_bytes(b"8BPS\0\1" + bytes(100))
    refused("a picture in the format Photoshop", folder / "a.psd")


def a_loader_that_is_not_installed_is_named(folder):
    (folder / "none.cache").write_text("")
    (folder / "a.avif").write_bytes(b"\0\0\0\x20ftypavif" + bytes(200))
    done = run([DUMP, folder / "a.avif"], env=environment(GDK_PIXBUF_MODULE_FILE=folder / "none.cache"))
    check(done.returncode == 1 and "AVIF, whose gdk-pixbuf loader is not installed (Debian package heif-gdk-pixbuf)"
          in done.stderr, done.stderr)


def avif_and_heif_are_read_where_their_loader_is_installed(folder):
    if not shutil.which("heif-enc"):
        raise Skip("no heif-enc to make one (libheif-examples)")
    rows = [[(40 + x // 8 * 40, 200 - y // 8 * 40, 120) for x in range(32)] for y in range(32)]
    png(folder / "a.png", rows, 2, 8)
    for name, words in (("a.heic", []), ("a.avif", ["-A"])):
        done = run(["heif-enc", *words, "-q", "90", folder / "a.png", "-o", folder / name])
        if done.returncode:
            raise Skip(f"heif-enc cannot write {name}: {done.stderr[-200:]}")
        found = pixels(folder / name)
        worst = max(abs(a - b) for pair in zip(found, rows) for p in zip(*pair) for a, b in zip(*p))
        check(worst < 30, name, worst)
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:len(whole) // 2])
        refused("damaged or cut short", folder / name)


def animated(folder, name, **options):
    """Four frames of 100, 200, 300 and 400 ms."""
    frames = [Image.new("RGB", (WIDTH, HEIGHT), color) for color in ("red", "lime", "blue", "white")]
    frames[0].save(folder / name, save_all=True, append_images=frames[1:], duration=[100, 200, 300, 400], loop=0, **options)
    return folder / name


def animated_gif_and_webp_are_clips(folder):
    need_pillow()
    for path in (animated(folder, "a.gif"), animated(folder, "a.webp", lossless=True)):
        frames, status, said = dump(path)
        check(status == 0, said)
        check([frame[2] // 10 ** 6 for frame in frames] == [0, 100, 300, 600], path, [frame[2] for frame in frames])
        check([tuple(frame[3][:3]) for frame in frames] == [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)], path)
        check([frame[2] // 10 ** 6 for frame in dump(path, "0.25")[0]] == [0, 300, 600], path)
        path.write_bytes(path.read_bytes()[:-60])
        frames, status, said = dump(path)
        check(status == 1 and "cut short" in said, path, status, said)


def gif_frames_are_put_on_each_other_as_viewers_do(folder):
    """Partial frames, transparency, and each way to dispose of a frame, against Pillow."""
    need_pillow()
    chance = random.Random(3)
    for disposal in (0, 1, 2, 3):
        first = image(noise(3)).convert("P", palette=Image.Palette.ADAPTIVE, colors=16)
        more = []
        for n in range(3):
            frame = first.copy()
            frame.paste(chance.randrange(16), (2 + n, 3, 12, 9 + n))
            more.append(frame)
        path = folder / "a.gif"
        first.save(path, save_all=True, append_images=more, duration=100, disposal=[1] + 3 * [disposal], optimize=False)
        frames, status, said = dump(path)
        check(status == 0 and len(frames) == 4, said)
        with Image.open(path) as pillow:
            for n, frame in enumerate(frames):
                pillow.seek(n)
                expected = Image.new("RGBA", pillow.size, "white")
                expected.alpha_composite(pillow.convert("RGBA"))
                check(frame[3] == expected.convert("RGB").tobytes(), "disposal", disposal, "frame", n)


def describe(model, *words, status=0, **options):
    return good(run([GLM4V, "describe", "--model", model, "--max-tokens", "2", "--json", *words], **options), status)


def a_folder_is_described_in_order(folder):
    model = tiny_model(BASE)
    place = folder / "pictures"
    (place / "sub" / "deeper").mkdir(parents=True)
    (place / "apart").mkdir()
    for name in ("b.png", "a.png", "A.png", "10.png", "2.png", "sub/c.png", "sub/deeper/d.png", ".hidden.png", "sub.png"):
        png(place / name, noise(3), 2, 8)
    (place / "labels.txt").write_text("a scratch\n")
    (place / "again").symlink_to(place)
    (place / "link.png").symlink_to(place / "a.png")
    done = describe(model, place)
    names = [os.path.relpath(result["input"], place) for result in results_of(done.stdout)]
    check(names == ["10.png", "2.png", "A.png", "a.png", "b.png", "link.png", "sub.png"], names)
    check("labels.txt: skipped, neither a picture nor a video" in done.stderr, done.stderr)
    names = [os.path.relpath(result["input"], place) for result in results_of(describe(model, "--recursive", place).stdout)]
    check(names == ["10.png", "2.png", "A.png", "a.png", "b.png", "link.png", "sub/c.png", "sub/deeper/d.png", "sub.png"], names)
    plain = good(run([GLM4V, "describe", "--model", model, "--max-tokens", "2", f"{place}/sub/"])).stdout
    check(plain.startswith(f"{place}/sub/c.png: "), plain)
    (place / "b.png").write_bytes((place / "b.png").read_bytes()[:200])
    states = [result["status"] for result in results_of(describe(model, place, status=1).stdout)]
    check(states == ["ok"] * 4 + ["error"] + ["ok"] * 2, states)
    done = describe(model, place / "apart", status=1)
    check("neither a picture nor a video in this folder" in results_of(done.stdout)[0]["message"], done.stdout)


def data_uris_are_read(folder):
    rows = noise(3)
    raw = png(folder / "a.png", rows, 2, 8).read_bytes()
    plain = base64.b64encode(raw).decode()
    for text in ("data:image/png;base64," + plain, "data:;base64," + plain, "DATA:image/png;BASE64," + plain.rstrip("="),
                 "data:image/png;base64," + base64.urlsafe_b64encode(raw).decode().replace("=", "%3D"),
                 "data:image/png," + "".join(f"%{byte:02X}" for byte in raw)):
        check(pixels(text) == rows, text[:60])
    for text, said in (("data:image/png;base64", "comma"), ("data:image/png;base64,", "without data"),
                       ("data:image/png;base64,@@@", "base64"), ("data:,%4", "%"),
                       ("data:image/png;base64," + plain[:200], "cut short")):
        refused(said, text)


def the_words_of_the_program_are_not_those_of_a_library(folder):
    """What a 16-bit, a rotated and a transparent picture are described as is what their plain copies are."""
    model = tiny_model(BASE)
    rows = noise(3, width=64, height=64)
    plain = png(folder / "a.png", rows, 2, 8)
    deep = png(folder / "b.png", mapped(rows, lambda *pixel: tuple(v << 8 | 77 for v in pixel)), 2, 16)
    clear = png(folder / "c.png", mapped(rows, lambda *pixel: (*pixel, 255)), 6, 8)
    texts = {result["text"] for result in results_of(describe(model, plain, deep, clear).stdout)}
    check(len(texts) == 1, texts)


def the_picture_line_of_the_readme_reads_16_bits(folder):
    """GStreamer 1.22's pngdec mixes up their channels."""
    line = next(line for line in (SOURCE / "README.md").read_text().splitlines() if "filesrc location=part.png" in line)
    decoder = line.split("filesrc location=part.png ! ")[1].split(" ! glm4vdescribe")[0]
    rows = noise(3, 16)
    for bits, given in ((16, rows), (8, mapped(rows, lambda *pixel: tuple(v >> 8 for v in pixel)))):
        png(folder / "part.png", given, 2, bits)
        good(run(f"gst-launch-1.0 -q filesrc location={folder}/part.png ! {decoder} ! video/x-raw,format=RGB ! "
                 f"filesink location={folder}/rgb", preload=True))
        data, stride = (folder / "rgb").read_bytes(), (3 * WIDTH + 3) // 4 * 4
        found = [[tuple(data[y * stride + 3 * x:][:3]) for x in range(WIDTH)] for y in range(HEIGHT)]
        check(found == mapped(rows, lambda *pixel: tuple(v >> 8 for v in pixel)), bits, "bits")


if __name__ == "__main__":
    try:
        main([png_of_every_kind_is_read_to_the_bit, other_lossless_formats_are_read_to_the_bit,
              tiff_of_16_bits_alpha_and_planes_is_read_to_the_bit, the_orientation_in_exif_is_undone,
              jpeg_is_decoded_as_pillow_does, files_that_are_cut_short_are_refused,
              damaged_files_end_in_an_error_or_a_picture, a_picture_of_hostile_size_is_refused_before_memory_is_taken,
              pictures_that_are_not_supported_are_named, a_loader_that_is_not_installed_is_named,
              avif_and_heif_are_read_where_their_loader_is_installed,
              animated_gif_and_webp_are_clips, gif_frames_are_put_on_each_other_as_viewers_do,
              a_folder_is_described_in_order, data_uris_are_read,
              the_picture_line_of_the_readme_reads_16_bits, the_words_of_the_program_are_not_those_of_a_library])
    finally:
        shutil.rmtree(BASE)
