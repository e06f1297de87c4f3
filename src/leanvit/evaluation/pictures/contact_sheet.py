"""A page of small images with what a net says of each: one file, which opens without a network."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

from PIL import Image

from leanvit.data.listing import read_image
from leanvit.data.pixels import opened, upright
from leanvit.evaluation.tables import percent, visible
from leanvit.files import atomic_path

SIDE = 192  # pixels of a thumbnail, at most

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 1.5rem; }}
h1 {{ font-size: 1.3rem; margin: 0; }}
h1 + p {{ margin: .2rem 0 1.2rem; opacity: .7; overflow-wrap: anywhere; }}
main {{ display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)); }}
figure {{ margin: 0; padding: .6rem; border: 1px solid #8886; border-radius: 6px; min-width: 0; }}
img, .none {{ display: block; width: 100%; height: 150px; object-fit: contain; }}
img.small {{ image-rendering: pixelated; }}
.none {{ display: grid; place-items: center; opacity: .6; }}
.name {{ font-size: 12px; opacity: .7; overflow-wrap: anywhere; margin: .4rem 0; }}
.class {{ position: relative; display: flex; gap: .5rem; padding: 1px 4px; margin-top: 2px;
  font-size: 13px; isolation: isolate; }}
.class b {{ flex: 1; font-weight: normal; min-width: 0; overflow-wrap: anywhere; }}
.class i {{ position: absolute; inset: 0 auto 0 0; z-index: -1; background: #4a90d955;
  border-radius: 3px; }}
.class:first-of-type b {{ font-weight: 600; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{subtitle}</p>
<main>
{figures}
</main>
</body>
</html>
"""
FIGURE = """<figure>
{image}
<figcaption>
<p class="name" title="{path}"><bdi>{name}</bdi></p>
{classes}
</figcaption>
</figure>"""
CLASS = (
    '<div class="class"><i style="width:{percent}%"></i><b><bdi>{label}</bdi></b>'
    "<span>{percent}&nbsp;%</span></div>"
)


def write_sheet(
    images: Sequence[tuple[Path, list[tuple[str, float]]]], title: str, subtitle: str, path: Path
) -> None:
    """
    Args:
        images: each file with its likeliest classes and their probabilities.
        path: of the page; whatever names hold, they are text on it and no markup.

    Raises:
        LeanvitError: it cannot be written.
    """
    figures = "\n".join(_figure(*each) for each in images)
    page = PAGE.format(title=_text(title), subtitle=_text(subtitle), figures=figures)
    with atomic_path(path) as part:
        part.write_text(page, encoding="utf-8")


def _figure(path: Path, ranked: Sequence[tuple[str, float]]) -> str:
    classes = [CLASS.format(label=_text(label), percent=percent(value)) for label, value in ranked]
    return FIGURE.format(
        image=_image(path),
        path=_text(str(path)),
        name=_text(path.name),
        classes="\n".join(classes),
    )


def _image(path: Path) -> str:
    try:
        with opened(io.BytesIO(read_image(path))) as image:
            image.draft("RGB", (2 * SIDE, 2 * SIDE))  # of a large JPEG not every pixel
            thumbnail = upright(image)
    except Exception:  # it was read before, and went since
        return '<div class="none">no longer there</div>'
    kind = "small" if max(thumbnail.size) < SIDE / 2 else "large"
    thumbnail.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    thumbnail.save(file, "JPEG", quality=90, subsampling=0)
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img class="{kind}" alt="" src="data:image/jpeg;base64,{data}">'


def _text(name: str) -> str:
    """As HTML shows it; names of files may be no text."""
    return escape(visible(name))
