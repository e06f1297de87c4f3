"""Decode a tree of images once, and find it decoded the next time.

The cache is an npz file whose members carry checksums; it is written under another name and
renamed when whole, and one that cannot be read is decoded again.
"""

import io
import os
import sys
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from leanvit.data.images import ImageFiles, ImageSet
from leanvit.data.pixels import Fit, decode
from leanvit.data.source import Source
from leanvit.errors import LeanvitError, SharedError, first_of, one_line
from leanvit.files import atomic_path, one_at_a_time

CACHE_FORMAT = 4  # raise it when the same files would decode to other tensors


def load_images(
    source: Source,
    tree: dict[str, list[str]],
    classes: tuple[str, ...],
    image_size: int,
    cache_dir: Path,
    skip_unreadable: bool = False,
    memory_gib: float | None = None,
    fit: Fit = "stretch",
) -> ImageSet:
    """The images of ``tree`` (class -> names in ``source``) as one uint8 tensor (N, 3, S, S).

    Args:
        classes: label k is ``classes[k]``; every key of ``tree`` is among them.
        cache_dir: where the decoded tensor is kept, named by the fingerprint of the files.
        skip_unreadable: leave out images that cannot be decoded (those that stay files are decoded
            too late for that).
        memory_gib: above this the images stay files, decoded by worker processes; ``None``: half
            of the memory that is free now.
        fit: how images of another shape become squares, see :func:`leanvit.data.pixels.decode`.

    Raises:
        LeanvitError: unreadable images (named), a class of unreadable images, or too many
            images in an archive.
    """
    names = [name for label in tree for name in tree[label]]
    labels = [classes.index(label) for label in tree for _ in tree[label]]
    size_gib = len(names) * 3 * image_size**2 / 2**30
    limit_gib = free_memory_gib() / 2 if memory_gib is None else memory_gib
    if size_gib > limit_gib:
        if not source.path.is_dir():
            raise LeanvitError(
                f"{source.path}: {size_gib:.1f} GiB of decoded images exceed the {limit_gib:.1f} "
                "GiB of memory to spend: unpack the archive and give the folder as data.source"
            )
        files = ImageFiles(tuple(source.path / name for name in names), image_size, fit)
        return ImageSet(files, torch.tensor(labels), classes)

    fingerprint = source.fingerprint(names)
    kind = f"{image_size}px-{fit}{'-skip' if skip_unreadable else ''}-v{CACHE_FORMAT}"
    cache = cache_dir / f"{fingerprint[:24]}-{kind}.npz"
    cached = _read_cache(cache, fingerprint)
    if cached is None:
        with one_at_a_time(cache_dir):  # jobs of a grid begin at once
            cached = _read_cache(cache, fingerprint)
            if cached is None:
                cached = _decode_all(source, names, image_size, fit, skip_unreadable)
                _keep(cache, fingerprint, *cached)
    pixels, kept = cached
    # labels are not cached: the same files have others where the classes are others
    kept_labels = torch.tensor(labels)[torch.from_numpy(kept)]
    _refuse_lost_class(source, tree, Counter(classes[k] for k in kept_labels.tolist()))
    # (N, S, S, 3) on disk and in memory, (N, 3, S, S) by name: channels_last
    return ImageSet(torch.from_numpy(pixels).permute(0, 3, 1, 2), kept_labels, classes)


def free_memory_gib() -> float:
    """Memory of this machine that is free now, in GiB; of jobs that run at once, a job's share."""
    shares = int(os.environ.get("LEANVIT_SHARES", "1"))  # set by leanvit.app.processes.take_share
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        return int(fields["MemAvailable"].split()[0]) / 2**20 / shares
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**31 / shares


def _read_cache(cache: Path, fingerprint: str) -> tuple[np.ndarray, np.ndarray] | None:
    if not cache.exists():
        return None
    try:
        # NumPy alone would miss a flipped bit in a shape: it reads less, and checks no sum
        with zipfile.ZipFile(cache) as archive:
            if damaged := archive.testzip():
                raise zipfile.BadZipFile(f"wrong checksum of {damaged}")
        with np.load(cache) as arrays:
            if str(arrays["fingerprint"]) != fingerprint:
                return None
            return arrays["images"], arrays["kept"]
    except Exception as error:  # a damaged zip fails in many ways
        why = one_line(error)
        print(f"cache {cache} is damaged ({why}): decoding the images again", file=sys.stderr)
        with suppress(OSError):
            cache.unlink()
        return None


def _keep(cache: Path, fingerprint: str, pixels: np.ndarray, kept: np.ndarray) -> None:
    """Write the cache; where it cannot be written, images are decoded anew each time."""
    try:
        with atomic_path(cache) as part, part.open("wb") as file:
            np.savez(file, images=pixels, kept=kept, fingerprint=np.array(fingerprint))
    except LeanvitError as error:
        print(f"decoded images are not kept in data.data_dir: {error}", file=sys.stderr)


def _decode_all(
    source: Source, names: list[str], image_size: int, fit: Fit, skip_unreadable: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (kept, S, S, 3) and the mask of the names that could be read.

    Raises:
        SharedError: some cannot, and are not to be left out.
    """
    pixels = np.empty((len(names), image_size, image_size, 3), dtype=np.uint8)
    kept = np.ones(len(names), dtype=bool)
    unread = dict[str, str]()

    def work(chunk: list[int]) -> None:
        for i in chunk:
            try:
                pixels[i] = decode(io.BytesIO(source.read(names[i])), image_size, fit)
            except Exception as error:  # Pillow raises many kinds for a damaged file
                unread[f"{source.path}/{names[i]}"] = one_line(error)
                kept[i] = False

    order, num_threads = list(range(len(names))), os.cpu_count()
    if not source.path.is_dir():
        # an archive is read through one handle and in its own order: a compressed tar that is
        # asked for an earlier member starts again from its beginning
        place = {name: i for i, name in enumerate(source.files)}
        order, num_threads = sorted(order, key=lambda i: place[names[i]]), 1
    chunks = [order[i : i + 512] for i in range(0, len(order), 512)]
    with ThreadPoolExecutor(num_threads) as pool:
        done = pool.map(work, chunks)
        label = f"decoding {len(names):,} images"
        for _ in track(done, label, total=len(chunks), disable=not sys.stderr.isatty()):
            pass
    if unread and not skip_unreadable:
        raise _refused(unread)
    for where, why in unread.items():
        print(f"skipped unreadable image {where} ({why})", file=sys.stderr)
    return pixels if kept.all() else pixels[kept], kept


def _refused(unread: dict[str, str]) -> SharedError:
    """Images that cannot be read, by the first of their names."""
    num, told = len(unread), first_of([f"{where} ({why})" for where, why in unread.items()])
    what, them = ("image", "it") if num == 1 else (f"{num:,} images:", "them")
    return SharedError(
        f"cannot read {what} {told}: replace or remove {them}, or leave such images out with "
        "data.skip_unreadable=true"
    )


def _refuse_lost_class(source: Source, tree: dict[str, list[str]], counts: Counter[str]) -> None:
    for label, names in tree.items():
        if not counts[label]:
            raise LeanvitError(
                f"class {label!r} in {source.path}: none of its {len(names)} images can be read: "
                "replace them or remove its folder"
            )
