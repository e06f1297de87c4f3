"""Images that judge a net and were shown to it, too."""

from torch import Tensor

from leanvit.data.images import ImageSet


def seen_images(train: ImageSet, val: ImageSet, test: ImageSet) -> dict[str, int]:
    """How many images stand, pixel by pixel, also in a set that training or its choices look at:
    of ``val`` in ``train``, of ``test`` in either. Nothing, where a set is files that are decoded
    on demand: it would take as long as an epoch."""
    if not all(isinstance(each.images, Tensor) for each in (train, val, test)):
        return {}
    known, chosen = set(_digests(train)), _digests(val)
    shown = known.union(chosen)
    return {
        "val": sum(each in known for each in chosen),
        "test": sum(each in shown for each in _digests(test)),
    }


def seen_line(seen: dict[str, int], val: ImageSet, test: ImageSet) -> str | None:
    """The same as a warning, where there are any, or none were looked for."""
    if not seen:
        return "too many images to look whether some of them stand in several sets"
    told = []
    if seen["val"]:
        told.append(f"{seen['val']:,} of {len(val):,} validation images are training images")
    if seen["test"]:
        known = "training or validation images"
        told.append(f"{seen['test']:,} of {len(test):,} test images are {known}")
    if not told:
        return None
    return f"by their pixels {' and '.join(told)}: figures of these are too good, remove them"


def _digests(data: ImageSet) -> list[int]:
    assert isinstance(data.images, Tensor)
    images = data.images.permute(0, 2, 3, 1).numpy()  # as they lie in memory
    # 64 bits of SipHash, the fastest at hand: of a million images two would agree by chance in one
    # of ten million sets
    return [hash(image.tobytes()) for image in images]
