"""Images as they come: each kind against Pillow or the pixels it was made of, and each way to be unreadable."""

import io
import os
import struct
import sys
import threading
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from autofocus_jax.data.image import decode_image, decode_size, image_size, read_annotated, read_image
from autofocus_jax.structures import ImageError

HEIGHT, WIDTH = 45, 60
RGB = cv2.resize(np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8), (WIDTH, HEIGHT))
ALPHA = np.linspace(0, 255, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH).astype(np.uint8)
PICTURE = Image.fromarray(RGB)
LAYERS = Image.fromarray(np.dstack([RGB, ALPHA]))


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def with_cv2(suffix: str, image: np.ndarray) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def tiff(samples: np.ndarray, photometric: int, extra: int | None = None) -> bytes:
    """An uncompressed TIFF file of samples [h, w, c], written by hand: Pillow and OpenCV cannot write all kinds."""
    height, width, channels = samples.shape
    bits, data = 8 * samples.itemsize, samples.astype(samples.dtype.newbyteorder("<")).tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 0, 277: channels, 278: height}
    tags |= {279: len(data)} | ({} if extra is None else {338: extra})
    end = 8 + 2 + 12 * len(tags) + 4
    tags[273] = end + 2 * channels
    entries = b""
    for tag, value in sorted(tags.items()):
        if tag == 258 and channels > 2:
            entries += struct.pack("<HHII", tag, 3, channels, end)
        elif tag == 258:
            entries += struct.pack("<HHIHH", tag, 3, channels, bits, bits)
        else:
            entries += struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    return head + struct.pack(f"<{channels}H", *[bits] * channels) + data


def on_white(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    opacity = alpha[..., None] / 255
    return rgb * opacity + 255 * (1 - opacity)


def of_pillow(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


GREY16 = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 24).astype(np.uint16)
GREY16_IN_8 = np.repeat((GREY16 // 256).astype(np.uint8)[..., None], 3, axis=2)
FAX = PICTURE.convert("1")
PALETTE = PICTURE.quantize(16)
SEEN = np.asarray(PALETTE) != 3  # palette index 3 is made transparent
PALETTE_ON_WHITE = np.where(SEEN[..., None], np.asarray(PALETTE.convert("RGB")), 255)
CMYK = np.asarray(PICTURE.convert("CMYK"))
BGR16 = RGB[..., ::-1].astype(np.uint16) * 257
BLACK_HOLES = np.dstack([np.where(ALPHA[..., None] > 127, RGB, 0), np.where(ALPHA > 127, 255, 0).astype(np.uint8)])

# Name -> the file, what it must look like, and how far it may be from that (mean and largest difference).
KINDS = {
    "jpeg": (encoded(PICTURE, "JPEG", quality=95), RGB, (3, 40)),
    "progressive jpeg": (encoded(PICTURE, "JPEG", quality=95, progressive=True), RGB, (3, 40)),
    "grey jpeg": (encoded(PICTURE.convert("L"), "JPEG"), of_pillow(encoded(PICTURE.convert("L"), "JPEG")), (0, 0)),
    "cmyk jpeg": (encoded(PICTURE.convert("CMYK"), "JPEG", quality=95), RGB, (3, 40)),
    "cmyk tiff": (encoded(PICTURE.convert("CMYK"), "TIFF"), RGB, (0, 0)),
    "cmyk with black, tiff": (
        tiff(CMYK // 2 + 60, 5), np.asarray(Image.fromarray(CMYK // 2 + 60, "CMYK").convert("RGB")), (1, 1),
    ),
    "png": (encoded(PICTURE, "PNG"), RGB, (0, 0)),
    "grey png": (encoded(PICTURE.convert("L"), "PNG"), of_pillow(encoded(PICTURE.convert("L"), "PNG")), (0, 0)),
    "black and white png": (encoded(FAX, "PNG"), np.asarray(FAX.convert("RGB")), (0, 0)),
    "fax tiff": (encoded(FAX, "TIFF", compression="group4"), np.asarray(FAX.convert("RGB")), (0, 0)),
    "rgba png": (encoded(LAYERS, "PNG"), on_white(RGB, ALPHA), (1, 1)),
    "grey and alpha png": (
        encoded(LAYERS.convert("LA"), "PNG"),
        on_white(np.asarray(PICTURE.convert("L").convert("RGB")), ALPHA), (1, 1),
    ),
    "rgba 16 bit png": (
        with_cv2(".png", np.dstack([BGR16, ALPHA.astype(np.uint16) * 257])), on_white(RGB, ALPHA), (1, 1)
    ),
    "opaque rgba png": (encoded(PICTURE.convert("RGBA"), "PNG"), RGB, (0, 0)),
    "rgba webp": (
        encoded(Image.fromarray(BLACK_HOLES), "WEBP", lossless=True), on_white(RGB, 255 * (ALPHA > 127)), (0, 0),
    ),
    "rgba tiff": (tiff(np.dstack([RGB, ALPHA]), 2, 2), on_white(RGB, ALPHA), (1, 2)),
    "rgba 16 bit tiff": (tiff(np.dstack([RGB, ALPHA]).astype(np.uint16) * 257, 2, 2), on_white(RGB, ALPHA), (1, 2)),
    "premultiplied tiff": (
        tiff(np.dstack([np.rint(RGB * (ALPHA[..., None] / 255)), ALPHA]).astype(np.uint8), 2, 1),
        on_white(RGB, ALPHA), (1, 2),
    ),
    "rgb and infrared tiff": (tiff(np.dstack([RGB, ALPHA]), 2, 0), RGB, (0, 0)),
    "palette png": (encoded(PALETTE, "PNG"), np.asarray(PALETTE.convert("RGB")), (0, 0)),
    "transparent palette png": (encoded(PALETTE, "PNG", transparency=3), PALETTE_ON_WHITE, (0, 0)),
    "gif": (encoded(PALETTE, "GIF"), np.asarray(PALETTE.convert("RGB")), (0, 0)),
    "transparent gif": (encoded(PALETTE, "GIF", transparency=3), PALETTE_ON_WHITE, (0, 0)),
    "animated gif": (
        encoded(PALETTE, "GIF", save_all=True, append_images=[Image.new("P", PALETTE.size)]),
        np.asarray(PALETTE.convert("RGB")), (0, 0),
    ),
    "animated webp": (
        encoded(PICTURE, "WEBP", save_all=True, append_images=[Image.new("RGB", PICTURE.size)], lossless=True),
        RGB, (0, 0),
    ),
    "two pages tiff": (encoded(PICTURE, "TIFF", save_all=True, append_images=[Image.new("L", (9, 9))]), RGB, (0, 0)),
    "bmp": (encoded(PICTURE, "BMP"), RGB, (0, 0)),
    "webp": (encoded(PICTURE, "WEBP", quality=95), RGB, (4, 60)),
    "lossless webp": (encoded(PICTURE, "WEBP", lossless=True), RGB, (0, 0)),
    "tiff": (encoded(PICTURE, "TIFF"), RGB, (0, 0)),
    "packed tiff": (encoded(PICTURE, "TIFF", compression="tiff_lzw"), RGB, (0, 0)),
    "white is zero tiff": (tiff(255 - RGB[..., :1], 0), np.repeat(RGB[..., :1], 3, axis=2), (0, 0)),
    "16 bit grey png": (encoded(Image.fromarray(GREY16), "PNG"), GREY16_IN_8, (0, 0)),
    "16 bit grey tiff": (encoded(Image.fromarray(GREY16), "TIFF"), GREY16_IN_8, (0, 0)),
    "16 bit png": (with_cv2(".png", BGR16), RGB, (0, 0)),
    "16 bit tiff": (with_cv2(".tiff", BGR16), RGB, (0, 0)),
    "ppm": (encoded(PICTURE, "PPM"), RGB, (0, 0)),
    "jpeg 2000": (encoded(PICTURE, "JPEG2000"), RGB, (0, 0)),
}  # fmt: skip


@pytest.mark.parametrize("oriented", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_becomes_the_same_rgb(kind, oriented, tmp_path):
    content, wanted, (mean, largest) = KINDS[kind]
    path = tmp_path / "Bär 熊 🐻.img"  # the name says nothing of the kind
    path.write_bytes(content)
    image = read_image(path, oriented)
    assert image.dtype == np.uint8 and image.shape == (HEIGHT, WIDTH, 3) and image.flags.c_contiguous
    difference = np.abs(image - np.asarray(wanted, float))
    assert difference.mean() <= mean and difference.max() <= largest
    assert image_size(path, oriented) == (HEIGHT, WIDTH) == decode_size(content, path, oriented)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "rgba", "webp", "tiff", "16 bit"])
def test_orientation_tag(kind, orientation, tmp_path):
    exif = Image.Exif()
    exif[274] = orientation
    picture = {"rgba": LAYERS, "16 bit": Image.fromarray(GREY16)}.get(kind, PICTURE)
    name = {"jpeg": "JPEG", "webp": "WEBP", "tiff": "TIFF"}.get(kind, "PNG")
    options = {"quality": 95} if kind == "jpeg" else {"lossless": True} if kind == "webp" else {}
    path = tmp_path / "tagged"
    path.write_bytes(encoded(picture, name, exif=exif, **options))
    stored, shown = read_image(path), read_image(path, oriented=True)
    plain = decode_image(encoded(picture, name, **options), "plain")
    turned = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    np.testing.assert_array_equal(stored, shown if kind == "tiff" else plain)
    if kind in ("rgba", "16 bit"):  # Pillow neither lays on white nor keeps the upper bits: turn what was tested above
        frame = Image.fromarray(plain)
        frame.getexif()[274] = orientation
        turned = np.asarray(ImageOps.exif_transpose(frame))
    assert shown.shape == turned.shape and np.abs(shown.astype(int) - turned).max() <= 1
    assert image_size(path) == stored.shape[:2] and image_size(path, oriented=True) == shown.shape[:2]


def test_annotated_images_stay_as_stored_unless_only_turned_they_have_the_stated_size(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    path = tmp_path / "tagged.png"
    path.write_bytes(encoded(PICTURE, "PNG", exif=exif))
    np.testing.assert_array_equal(read_annotated(path, HEIGHT, WIDTH, "boxes.json"), RGB)
    np.testing.assert_array_equal(read_annotated(path, WIDTH, HEIGHT, "boxes.json"), np.rot90(RGB, -1))
    with pytest.raises(ImageError, match=r"tagged\.png is 60x45 px but boxes\.json says 60x40"):
        read_annotated(path, 40, 60, "boxes.json")
    path.write_bytes(encoded(PICTURE, "PNG"))
    with pytest.raises(ImageError, match="do not belong together"):
        read_annotated(path, WIDTH, HEIGHT, "boxes.json")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_tiny_images(kind, size):
    image = decode_image(encoded(Image.new("RGB", size, (255, 255, 255)), kind), "tiny")
    assert image.shape == (size[1], size[0], 3) and image.min() == 255


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def black_png(height: int, width: int) -> bytes:
    """A grey PNG of zeros that is compressed piece by piece, so that it costs the test no memory."""
    press, row = zlib.compressobj(1), bytes(width + 1)
    data = b"".join(press.compress(row) for _ in range(height)) + press.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_avif_is_read_also_under_the_brand_that_heic_uses():
    try:
        content = encoded(PICTURE, "AVIF", quality=95)
    except (KeyError, OSError):
        pytest.skip("this Pillow writes no AVIF")
    for brand in (b"avif", b"mif1"):
        assert np.abs(decode_image(content[:8] + brand + content[12:], "a.avif") - RGB.astype(int)).mean() < 4


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n" + b"\xff" * 99, b"RIFF\xff\xff\xff\xffWEBPVP8 " + b"\0" * 99])
def test_the_size_of_a_damaged_head_is_an_error_and_nothing_is_decoded(content, tmp_path, monkeypatch):
    def never(*_):
        raise AssertionError("asked for a size, it decoded the image")

    (tmp_path / "a").write_bytes(content)
    monkeypatch.setattr("autofocus_jax.data.image._of_pillow", never)
    monkeypatch.setattr("autofocus_jax.data.tiff.decode", never)
    with pytest.raises(ImageError, match="cannot be decoded"):
        image_size(tmp_path / "a")


def test_huge_images_are_read():
    content = black_png(300, 20_000)
    assert decode_image(content, "long").shape == (300, 20_000, 3)
    assert decode_size(black_png(10_000, 9_000), "large") == (10_000, 9_000)  # of which Pillow would warn


def head_of_png(height: int, width: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def bombs() -> dict[str, bytes]:
    """Small files of 32000x32000 px or so, of the kinds whose decoders took gigabytes."""
    bmp = struct.pack("<2sIHHI", b"BM", 1080, 0, 0, 54) + struct.pack("<IiiHHIIiiII", 40, 32000, 32000, 1, 8, 1, 0, 0,
                                                                     0, 0, 0)  # fmt: skip
    tall = tiff(np.zeros((1, 1, 1), np.uint8), 1).replace(struct.pack("<HHII", 256, 3, 1, 1),
                                                          struct.pack("<HHII", 256, 4, 1, 2**20))  # fmt: skip
    return {
        "gif": b"GIF89a" + struct.pack("<HHBBB", 32767, 32767, 0, 0, 0) + b"," + struct.pack("<HHHHB", 0, 0, 32767,
               32767, 0) + b"\x02\x01\x44\x00;",
        "bmp": bmp + bytes(2000),
        "png": head_of_png(32_000, 32_000),
        "webp": b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4)
                + struct.pack("<I", 16382)[:3] + struct.pack("<I", 16382)[:3] + bytes(12),
        "ppm": b"P6 32000 32000 255\n" + bytes(100),
        "tiff": tall.replace(struct.pack("<HHII", 257, 3, 1, 1), struct.pack("<HHII", 257, 4, 1, 2**20)),
    }  # fmt: skip


@pytest.mark.parametrize("kind", bombs())
def test_what_is_too_large_is_refused_before_it_is_decoded(kind, monkeypatch):
    def decode(*arguments, **options):
        raise AssertionError("a decoder ran")

    monkeypatch.setattr(cv2, "imdecode", decode)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    with pytest.raises(ImageError, match=r"sky has \d+x\d+ px, above the limit of 67108864 pixels; .*max-pixels"):
        decode_image(bombs()[kind], "sky")
    assert min(decode_size(bombs()[kind], "sky")) > 16_000


def test_the_limit_can_be_raised(monkeypatch):
    content = black_png(100, 100)
    for limit, good in (("9999", False), ("10000", True), ("nonsense", True)):
        monkeypatch.setenv("AUTOFOCUS_MAX_PIXELS", limit)
        if good:
            assert decode_image(content, "x").shape == (100, 100, 3)
        else:
            with pytest.raises(ImageError, match="100x100 px, above the limit of 9999"):
                decode_image(content, "x")


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "device.png").symlink_to("/dev/zero")
    with open(tmp_path / "sparse.png", "wb") as file:
        file.truncate(2**40)
    for name, why in (("pipe", "no regular file"), ("device", "no regular file"), ("sparse", "above the limit")):
        for read in (read_image, image_size):
            with pytest.raises(ImageError, match=why if name != "sparse" or read is read_image else "cannot be"):
                read(tmp_path / f"{name}.png")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_turn_of_avif_itself(orientation, tmp_path):
    """Pillow writes the tag as `irot` and `imir` boxes, which every viewer follows."""
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / "a.avif"
    turned = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(encoded(PICTURE, "PNG", exif=exif)))))
    path.write_bytes(encoded(PICTURE, "AVIF", quality=95, exif=exif))
    assert image_size(path, oriented=True) == turned.shape[:2]
    assert np.abs(read_image(path, oriented=True).astype(int) - turned).mean() < 4
    assert np.abs(read_image(path).astype(int) - RGB).mean() < 4


def test_orientation_in_xmp_is_left_aside_by_size_and_pixels():
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    )
    content = encoded(PICTURE, "JPEG", quality=95, xmp=xmp)
    assert decode_size(content, "x", True) == decode_image(content, "x", True).shape[:2] == (HEIGHT, WIDTH)


def test_sixteen_bits_that_are_nearly_black_are_logged(caplog):
    for samples, bits in ((GREY16 // 4, 14), (GREY16 // 32, 11), (GREY16 // 256, 8), (GREY16, None)):
        for kind in ("PNG", "TIFF"):
            caplog.clear()
            decode_image(encoded(Image.fromarray(samples), kind), "dark.x")
            wanted = [f"image dark.x has 16 bits a sample and uses the lower {bits} alone"] if bits else []
            assert [record.getMessage().split(",")[0] for record in caplog.records] == wanted or kind == "TIFF"
            assert len(caplog.records) == len(wanted)
    caplog.clear()
    decode_image(with_cv2(".png", BGR16 // 64), "dark.png")
    assert "uses the lower 10 alone" in caplog.text


@pytest.mark.parametrize("channel", range(3))
def test_one_bright_channel_is_enough(caplog, channel):
    samples = np.zeros((256, 256, 3), np.uint16)
    samples[..., channel] = np.random.default_rng(0).integers(0, 65536, (256, 256))
    decode_image(with_cv2(".png", samples), "bright.png")
    decode_image(with_cv2(".tiff", samples), "bright.tif")
    assert not caplog.records


def test_hot_pixels_do_not_hide_that_an_image_is_nearly_black(caplog):
    samples = np.full((100, 200), 900, np.uint16)
    samples[::50, ::50] = 65535  # 8 of 20000
    for kind in ("png", "tiff"):
        decode_image(encoded(Image.fromarray(samples), kind), "hot.x")
    assert ["uses the lower 10 alone" in record.getMessage() for record in caplog.records] == [True, True]


@pytest.mark.parametrize(("form", "bits"), [(2, 16), (2, 8), (3, 16)])
def test_signed_and_floating_samples_are_errors(form, bits):
    samples = np.full((8, 9, 1), 7, np.uint16 if bits == 16 else np.uint8)
    content = tiff(samples, 1, form).replace(struct.pack("<HHI", 338, 4, 1), struct.pack("<HHI", 339, 4, 1))
    content = content.replace(struct.pack("<HHI", 338, 3, 1), struct.pack("<HHI", 339, 3, 1))
    for read in (decode_image, decode_size):
        with pytest.raises(ImageError, match="signed samples" if form == 2 else "floating point"):
            read(content, "nodata.tif")


def test_bands_of_a_tiff():
    with pytest.raises(ImageError, match=r"satellite\.tif has 8 bands; choose three"):
        decode_image(tiff(np.zeros((8, 9, 8), np.uint8), 1), "satellite.tif")


def jpeg_of_a_phone() -> bytes:
    """A JPEG with a thumbnail in its head and a video of random bytes behind its end."""
    exif = Image.Exif()
    exif[274] = 1
    inner = encoded(PICTURE.resize((16, 12)), "JPEG")
    whole = encoded(PICTURE, "JPEG", quality=95, exif=exif)
    comment = b"\xff\xfe" + struct.pack(">H", len(inner) + 2) + inner
    video = b"\0\0\0\x18ftypmp42" + np.random.default_rng(1).bytes(2_000_000)
    return whole[:2] + comment + whole[2:] + video


def test_what_phones_append_to_a_jpeg_does_not_matter():
    content = jpeg_of_a_phone()
    assert content.rfind(b"\xff\xda") > content.rfind(b"\xff\xd9") or not content.endswith(b"\xff\xd9")
    assert np.abs(decode_image(content, "phone") - RGB.astype(int)).mean() < 3
    padded = encoded(PICTURE, "JPEG", quality=95, progressive=True) + bytes(5000)
    assert np.abs(decode_image(padded, "padded") - RGB.astype(int)).mean() < 3


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
def test_cut_files_are_errors(kind, share):
    whole = encoded(PICTURE, kind)
    with pytest.raises(ImageError, match=r"^image cut\.img .*cannot be decoded"):
        decode_image(whole[: int(share * len(whole))], "cut.img")


def test_a_cut_jpeg_with_a_whole_thumbnail_is_cut():
    content = jpeg_of_a_phone()
    end = content.rfind(b"\xff\xd9", 0, content.find(b"ftypmp42"))
    with pytest.raises(ImageError, match="cut off after"):
        decode_image(content[: end - 300], "phone.jpg")


UNREADABLE = {
    "empty": (b"", "is empty"),
    "text": (b"this is no image", "it is no image file"),
    "zip": (b"PK\x03\x04" + bytes(100), "it is no image file"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"></svg>', "it is no image file"),
    "heic": (b"\0\0\0\x18ftypheic" + bytes(100), "HEIC"),
    "head only": (b"\x89PNG\r\n\x1a\n", "cut off"),
    "jpeg head only": (b"\xff\xd8", "cut off"),
    "damaged png": (
        encoded(PICTURE, "PNG")[:60] + b"\x55" * 40 + encoded(PICTURE, "PNG")[100:], "damaged or of a rare kind"
    ),
    "32-bit tiff": (encoded(Image.fromarray(RGB[..., 0].astype(np.float32)), "TIFF"), "save it anew"),
    "no pixels": (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 0, 8, 0, 0, 0, 0)) + chunk(b"IEND", b""),
        "cannot be decoded",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNREADABLE)
def test_unreadable_content_is_one_line_naming_the_file(kind, tmp_path):
    content, wanted = UNREADABLE[kind]
    path = tmp_path / "bad name\n.jpg"
    path.write_bytes(content)
    readers = (read_image,) if kind == "damaged png" else (read_image, image_size)
    for read in readers:  # the head of that one is whole
        with pytest.raises(ImageError) as caught:
            read(path)
        message = str(caught.value)
        assert wanted in message and r"bad name\n.jpg" in message and "\n" not in message


def test_unreadable_paths_are_one_line_naming_the_file(tmp_path, monkeypatch):
    for path, wanted in (
        (tmp_path / "none.jpg", r"none\.jpg cannot be read \(No such file"),
        (tmp_path, "is a folder"),
        ("a\0b.jpg", "cannot be read"),
        (tmp_path / "none.jpg" / "x.jpg", "cannot be read"),
        (os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg"), r"\\xff.jpg cannot be read"),
    ):
        with pytest.raises(ImageError, match=wanted) as caught:
            read_image(path)
        assert str(caught.value).isascii() and "\n" not in str(caught.value)

    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "locked.jpg").write_bytes(encoded(PICTURE, "JPEG"))
    monkeypatch.setattr("builtins.open", refuse)  # the tests may run as root, whom no file refuses
    with pytest.raises(ImageError, match=r"cannot be read \(Permission denied\); check the path and its permissions"):
        read_image(tmp_path / "locked.jpg")


def test_names_of_bytes_that_are_no_text(tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    try:
        with open(path, "wb") as file:
            file.write(encoded(PICTURE, "PNG"))
    except OSError:
        pytest.skip("this file system wants names of text")
    np.testing.assert_array_equal(read_image(path), RGB)


def test_threads_decode_side_by_side():
    """While one thread decodes another one runs: the interpreter's lock is not held."""
    noise = np.random.default_rng(0).integers(0, 256, (4000, 4000, 3), np.uint8)  # takes a quarter of a second
    content = with_cv2(".jpg", noise)

    def seen_decoding() -> bool:
        begun, done = threading.Event(), threading.Event()

        def decode():
            begun.set()
            decode_image(content, "noise.jpg")
            done.set()

        thread = threading.Thread(target=decode)
        thread.start()
        begun.wait()
        seen = not done.is_set()
        thread.join()
        return seen

    interval = sys.getswitchinterval()
    sys.setswitchinterval(10)  # nobody is asked to hand the lock over: it must be released
    try:
        assert any(seen_decoding() for _ in range(10))  # a busy machine may wake this thread too late once
    finally:
        sys.setswitchinterval(interval)
