"""From an image file to the pixels that a net sees: upright, opaque, RGB, square.

An export carries this file, so that it decodes as training does: it needs numpy and Pillow alone.
"""

import functools
import logging
import re
import warnings
from typing import Any, Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

Fit = Literal["stretch", "crop", "pad"]
GROUND = "white"  # behind what is transparent, and around what is padded
# of Pillow's formats those that hold documents, films, drawings and measurements
NO_PICTURES = {"BUFR", "EPS", "FITS", "GRIB", "HDF5", "IPTC", "MPEG", "PDF", "WMF"}
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@functools.cache
def formats() -> tuple[str, ...]:
    """Pillow's names of what is read here, the usual ones first."""
    logging.getLogger("PIL").setLevel(logging.CRITICAL)  # what it says comes without a file's name
    # it refuses images from 179 megapixels on, and warns of those of half of that, which are read
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    Image.preinit()
    Image.init()
    return tuple(name for name in Image.ID if name not in NO_PICTURES)


@functools.cache
def endings() -> frozenset[str]:
    """How the names of image files end, in small letters."""
    read = {*formats(), "MPO"}  # which Pillow reads as the JPEG that it begins with
    return frozenset(end for end, name in Image.registered_extensions().items() if name in read)


def decode(file: Any, image_size: int, fit: Fit = "stretch") -> np.ndarray:
    """One image file as RGB uint8 (image_size, image_size, 3).

    Another shape than a square is resized bilinearly: stretched; cropped, to the largest square in
    its middle; or padded with white.

    Raises:
        ValueError: pixels without a known range: floats, signed or 32-bit integers.
        OSError, SyntaxError: whatever Pillow says of a file that is no image.
        Image.DecompressionBombError: more than 179 megapixels.
    """
    with opened(file) as image:
        return squared(image, image_size, fit)


def opened(file: Any) -> Image.Image:
    """An image file as Pillow opens it; see :func:`decode` for what is raised."""
    try:
        return Image.open(file, formats=formats())
    except UnidentifiedImageError:  # whose own words name an object in memory
        raise OSError(
            "Pillow finds no image in it, or none that it can read: save it as 8-bit RGB"
        ) from None


def squared(image: Image.Image, image_size: int, fit: Fit = "stretch") -> np.ndarray:
    """What :func:`decode` makes of an open image, which stays as it is."""
    return np.array(_square(upright(image), image_size, fit))


def upright(image: Image.Image) -> Image.Image:
    """RGB of the same shape: turned as its EXIF data say, what is transparent on white, 16 bits
    scaled by their range (of a PNG or TIFF in colour Pillow reads the high byte alone, at most one
    less), of several frames or pages the first."""
    image.load()  # some formats know their orientation and transparency only then
    turn = _turn(image)
    rgb = _opaque(_in_bytes(image))
    return rgb if turn is None else rgb.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data are no damaged image
        return None


def _in_bytes(image: Image.Image) -> Image.Image:
    """The same in a mode of 8 bits."""
    tags: Any = getattr(image, "tag_v2", {})  # of a TIFF
    is_wide = image.mode.startswith("I;16")
    # Pillow brings the pixels of a PGM file to 16 bits, and older versions those of a PNG
    is_wide |= image.mode == "I" and image.format in ("PPM", "PNG")
    signed = {2, 3} & set(tags.get(ExifTags.Base.SampleFormat, (1,)))
    if signed or (image.mode in ("I", "F") and not is_wide):
        raise ValueError(
            "floats, signed and 32-bit integers have no known range: save it as 8 or 16 bit"
        )
    if not is_wide:
        return image
    values = np.asarray(image).astype(np.uint32)
    highest = 2 ** _num_bits(tags) - 1
    scaled = (np.minimum(values, highest) * 255 + highest // 2) // highest
    if tags.get(ExifTags.Base.PhotometricInterpretation) == 0:  # white is 0
        scaled = 255 - scaled
    narrow = Image.fromarray(scaled.astype(np.uint8))
    if isinstance(key := image.info.get("transparency"), int):
        narrow.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return narrow


def _num_bits(tags: Any) -> int:
    """Bits that the values of a wide image fill: those of a TIFF, of which OME's, from microscopes,
    say it where a camera's 12 lie in 16. No other file does: PNG's sBIT is of values that fill all
    16, and TIFF's MaxSampleValue is of the one image."""
    stored = tags.get(ExifTags.Base.BitsPerSample, (16,))[0]
    about = str(tags.get(ExifTags.Base.ImageDescription, ""))
    told = re.search(r'<(?:\w+:)?Pixels\b[^>]*\bSignificantBits="(\d{1,2})"', about)
    return int(told[1]) if told and 0 < int(told[1]) < stored else stored


def _opaque(image: Image.Image) -> Image.Image:
    """RGB, on the ground where it is transparent."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":  # Pillow knows one way only
        image = image.convert("LA")
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, GROUND), rgba).convert("RGB")


def _square(rgb: Image.Image, size: int, fit: Fit) -> Image.Image:
    if rgb.width != rgb.height and fit == "crop":
        return ImageOps.fit(rgb, (size, size), Image.Resampling.BILINEAR)
    if rgb.width != rgb.height and fit == "pad":
        scale = size / max(rgb.size)
        width, height = (max(1, round(side * scale)) for side in rgb.size)
        ground = Image.new("RGB", (size, size), GROUND)
        small = rgb.resize((width, height), Image.Resampling.BILINEAR)
        ground.paste(small, ((size - width) // 2, (size - height) // 2))
        return ground
    if rgb.size == (size, size):
        return rgb
    return rgb.resize((size, size), Image.Resampling.BILINEAR)
