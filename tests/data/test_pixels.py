"""What is seen of an image file: never garbage, and of ordinary files what Pillow says."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_trees import pixels_of
from PIL import Image, ImageOps

from leanvit.data.pixels import Fit, decode, endings, formats

GREY = pixels_of(0)[..., 0]
WIDE = GREY.astype(np.uint16) * 257


def saved(image: np.ndarray | Image.Image, kind: str, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, kind, **options)
    file.seek(0)
    return file


def tiff(values: bytes, bits: int, white_is_zero: bool = False, sample_format: int = 1,
         num_samples: int = 1) -> io.BytesIO:  # fmt: skip
    """An uncompressed TIFF of 8 x 8 pixels, kinds that Pillow does not write included."""
    tags = [(256, 8), (257, 8), (258, bits), (259, 1), (262, int(not white_is_zero)), (273, 134),
            (277, num_samples), (278, 8), (279, len(values)), (339, sample_format)]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value)
                       for tag, value in tags)  # fmt: skip
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    assert len(head) == 134
    return io.BytesIO(head + values)


def twelve_bits(values: np.ndarray) -> bytes:
    """Two values in three bytes."""
    pairs = values.reshape(-1, 2).tolist()
    return b"".join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a, b in pairs)


WIDE_FILES = {
    "PNG": saved(WIDE, "PNG"),
    "TIFF": saved(WIDE, "TIFF"),
    "TIFF, compressed": saved(WIDE, "TIFF", compression="tiff_lzw"),
    "TIFF of 12 bits": tiff(twelve_bits(np.round(GREY / 255 * 4095).astype(int)), 12),
    "TIFF of a microscope": saved(
        np.round(GREY / 255 * 4095).astype(np.uint16),
        "TIFF",
        tiffinfo={270: '<OME><Image ID="Image:0"><Pixels ID="0" SignificantBits="12" /></Image>'},
    ),
    "TIFF, white is 0": tiff((65535 - WIDE).astype("<u2").tobytes(), 16, white_is_zero=True),
    "JPEG 2000": saved(WIDE, "JPEG2000"),
    "PGM": saved(WIDE, "PPM"),
    "PGM of 12 bits": io.BytesIO(
        b"P5 8 8 4095\n" + np.round(GREY / 255 * 4095).astype(">u2").tobytes()
    ),
    "PPM": io.BytesIO(b"P6 8 8 65535\n" + np.stack([WIDE] * 3, -1).astype(">u2").tobytes()),
}


@pytest.mark.parametrize("kind", WIDE_FILES)
def test_16_bits_are_scaled_by_their_range(kind: str) -> None:
    grey = np.repeat(GREY[..., None], 3, axis=2)
    assert np.array_equal(decode(WIDE_FILES[kind], 8), grey)


def test_16_bits_are_rounded() -> None:
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = np.round(values / 257).astype(np.uint8)
    assert np.array_equal(decode(saved(values, "PNG"), 256)[..., 0], expected)


NO_RANGE = {
    "32 bits": saved(GREY.astype(np.int32), "TIFF"),
    "floats": saved(GREY.astype(np.float32) / 255, "TIFF"),
    "floats, PFM": saved(GREY.astype(np.float32), "PPM"),
    "8 bits, signed": tiff(GREY.tobytes(), 8, sample_format=2),
    "16 bits, signed": tiff(WIDE.tobytes(), 16, sample_format=2),
}


@pytest.mark.parametrize("kind", NO_RANGE)
def test_pixels_without_a_known_range_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="no known range: save it as 8 or 16 bit"):
        decode(NO_RANGE[kind], 8)


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", bytes(1000),
     tiff(GREY.tobytes() * 12, 8, num_samples=12).getvalue()],
    ids=["empty", "text", "PostScript", "zeros", "12 channels"],
)  # fmt: skip
def test_what_is_no_image_is_refused_without_running_anything(
    content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(OSError, match="finds no image") as caught:
        decode(io.BytesIO(content), 8)
    assert "0x" not in str(caught.value)
    assert capfd.readouterr().err == ""


def turned(orientation: int, kind: str, **options: Any) -> io.BytesIO:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(pixels_of(1), kind, exif=exif, **options)


@pytest.mark.parametrize("orientation", range(1, 10))  # 9 is none
@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("JPEG", {})]
)
def test_images_stand_upright(kind: str, options: dict[str, Any], orientation: int) -> None:
    file = turned(orientation, kind, **options)
    upright = np.array(ImageOps.exif_transpose(Image.open(file)))
    found = decode(file, 8)
    assert np.array_equal(found, upright)
    if kind != "JPEG" and 1 < orientation < 9:
        assert not np.array_equal(found, pixels_of(1))


def test_an_orientation_turns_before_the_shape_is_changed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = saved(Image.new("RGB", (20, 10), "red"), "JPEG", exif=exif)
    assert (decode(file, 20, "pad")[:, 0] == 255).all()  # tall now: white stands at its sides


@pytest.mark.parametrize("exif", [b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0garbage " * 3])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_data_are_no_damaged_image(exif: bytes) -> None:
    file = saved(pixels_of(1), "PNG", exif=exif)
    assert np.array_equal(decode(file, 8), pixels_of(1))


def half_transparent(kind: str) -> tuple[io.BytesIO, np.ndarray]:
    """A file whose upper half is transparent, and the opaque image in it."""
    rgb = pixels_of(2) if kind == "RGBA" else np.repeat(GREY[..., None], 3, axis=2)
    alpha = np.repeat(np.array([0, 255], dtype=np.uint8), 32).reshape(8, 8)
    if kind == "RGBA":
        return saved(np.dstack([rgb, alpha]), "PNG"), rgb
    if kind == "LA":
        return saved(Image.fromarray(np.dstack([GREY, alpha]), "LA"), "TIFF"), rgb
    keyed = np.where(alpha == 0, 7, np.where(GREY == 7, 8, GREY)).astype(np.uint8)
    rgb = np.repeat(keyed[..., None], 3, axis=2)
    if kind == "palette":
        palette = Image.fromarray(keyed, "P")
        palette.putpalette(np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes())
        return saved(palette, "PNG", transparency=7), rgb
    if kind == "16 bits":
        return saved(keyed.astype(np.uint16) * 257, "PNG", transparency=7 * 257), rgb
    return saved(keyed, kind, transparency=7), rgb


@pytest.mark.parametrize("kind", ["RGBA", "LA", "palette", "16 bits", "GIF", "PNG"])
def test_the_transparent_is_white_and_the_opaque_as_it_is(kind: str) -> None:
    file, rgb = half_transparent(kind)
    found = decode(file, 8)
    assert (found[:4] == 255).all()
    assert np.array_equal(found[4:], rgb[4:])


def test_half_transparent_colours_are_mixed_with_white() -> None:
    image = Image.new("RGBA", (8, 8), (100, 0, 200, 128))
    assert np.abs(decode(saved(image, "PNG"), 8)[0, 0].astype(int) - (177, 127, 227)).max() <= 1


def test_an_opaque_image_of_four_channels_is_not_changed() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    image[..., 3] = 255
    assert np.array_equal(decode(saved(image, "PNG"), 64), image[..., :3])


@pytest.mark.parametrize("size", [(8, 8), (37, 23), (5, 9)])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_ordinary_files_are_read_as_ever(size: tuple[int, int], kind: str) -> None:
    rng = np.random.default_rng(0)
    file = saved(rng.integers(0, 256, (*size, 3), dtype=np.uint8), kind)
    plain = Image.open(file).convert("RGB")
    if size != (8, 8):
        plain = plain.resize((8, 8), Image.Resampling.BILINEAR)
    assert np.array_equal(decode(file, 8), np.array(plain))


def wide_image() -> io.BytesIO:
    """A red square between a blue one and a green one."""
    image = Image.new("RGB", (30, 10), "red")
    image.paste("blue", (0, 0, 10, 10))
    image.paste("lime", (20, 0, 30, 10))
    return saved(image, "PNG")


def test_crop_keeps_the_middle_and_pad_keeps_all() -> None:
    cropped = decode(wide_image(), 10, "crop")
    assert (cropped == (255, 0, 0)).all()
    padded = decode(wide_image(), 30, "pad")
    assert (padded[:10] == 255).all() and (padded[20:] == 255).all()
    assert np.array_equal(padded[10:20], np.array(Image.open(wide_image())))
    stretched = decode(wide_image(), 30)
    assert stretched[0, 0].tolist() == [0, 0, 255] and stretched[29, 29].tolist() == [0, 255, 0]


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 2000), (2000, 1), (1, 1), (8, 8), (16, 16)])
def test_any_shape_becomes_a_square(size: tuple[int, int], fit: Fit) -> None:
    file = saved(Image.new("RGB", size, (10, 20, 30)), "PNG")
    found = decode(file, 8, fit)
    assert found.shape == (8, 8, 3)
    if size[0] == size[1] or fit != "pad":
        assert (found == (10, 20, 30)).all()
    else:
        assert 0 < (found == (10, 20, 30)).all(axis=-1).sum() <= 16


@pytest.mark.parametrize(
    ("ending", "kind"),
    [(".pgm", "PPM"), (".gif", "GIF"), (".jfif", "JPEG"), (".pnm", "PPM"), (".jp2", "JPEG2000"),
     (".avif", "AVIF"), (".tga", "TGA"), (".webp", "WEBP"), (".ico", "ICO"), (".mpo", "JPEG")],
)  # fmt: skip
def test_what_pillow_reads_is_read(tmp_path: Path, ending: str, kind: str) -> None:
    assert ending in endings()
    content = saved(Image.new("RGB", (16, 16), (200, 100, 50)), kind).getvalue()
    (tmp_path / f"x{ending}").write_bytes(content)
    with (tmp_path / f"x{ending}").open("rb") as file:
        assert np.abs(decode(file, 16).astype(int) - (200, 100, 50)).max() <= 3


def test_no_documents_films_or_measurements() -> None:
    assert not endings() & {".pdf", ".eps", ".ps", ".mpg", ".h5", ".fits", ".wmf", ".txt", ".npy"}


def test_16_bits_of_a_png_in_colour_are_their_high_byte() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (8, 8, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)),
             (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]  # fmt: skip
    chunks = [struct.pack(">I", len(data)) + name + data
              + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts]  # fmt: skip
    pixels = decode(io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(chunks)), 8)
    assert np.array_equal(pixels, values >> 8)
    assert np.abs(pixels - np.round(values / 257)).max() == 1


def test_large_images_are_read_without_a_word_and_huge_ones_refused(
    monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    """Pillow warns from its limit on, and refuses from twice that."""
    formats.cache_clear()  # pytest has put aside what is said at first use
    for limit in (64, 63, 32):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert decode(saved(GREY, "PNG"), 8).shape == (8, 8, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 31)
    with pytest.raises(Image.DecompressionBombError, match="64 pixels"):
        decode(saved(GREY, "PNG"), 8)
    assert not recwarn
