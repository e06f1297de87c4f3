"""Any net of timm, Wightman's PyTorch Image Models: baselines that everybody asks for.

Source: https://github.com/huggingface/pytorch-image-models.

- A net is built by its name, for images of the data's size: transformers of one size cut these into
  their patches, nets of convolutions take any.
- With weights, images are normalised as these want them.
- timm's nets do not say their steps in leanvit's names (:class:`leanvit.contracts.NetOfSteps`):
  they are trained, counted, timed, quantised and exported, and refused where steps are needed.
"""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from leanvit.errors import LeanvitError
from leanvit.models.pretrained import read_weights
from leanvit.values import Count
from leanvit.weights import mismatch


class Timm(nn.Module):
    """A net of timm: images of one size to logits.

    Args:
        image_size: height and width of the images in pixels.
        num_classes: number of logits.
        name: as ``timm.list_models()`` has it; behind a dot, which of its weights.
        weights: "timm" for those, downloaded where they must be; the path of a state dict in timm's
            names, whose head may be of other classes; ``None``: from scratch.

    Raises:
        LeanvitError: timm is not installed or has no such net; the net takes no images of this
            size; no weights, or weights of another net.
    """

    net: Any

    def __init__(
        self,
        image_size: Count,
        num_classes: Count,
        name: str = "resnet18",
        weights: str | None = None,
    ) -> None:
        super().__init__()
        try:
            import timm
        except ImportError as error:
            raise LeanvitError("model=timm wants the package timm: pip install timm") from error
        if not timm.is_model(name):
            near = get_close_matches(name.partition(".")[0], timm.list_models(), n=3)
            hint = f"near: {', '.join(near)}" if near else "timm.list_models() tells all"
            raise LeanvitError(f"model.name={name}: timm {timm.__version__} has none, {hint}")
        given = {"num_classes": num_classes, "pretrained": weights == "timm"}
        try:
            self.net = _created(timm.create_model, name, image_size, given)
        except Exception as error:  # timm's nets raise many kinds
            line = " ".join(str(error).split())
            raise LeanvitError(
                f"model.name={name} cannot be built for images of {image_size} pixels ({line})"
            ) from error
        if weights:
            told = self.net.pretrained_cfg
            self.statistics = tuple(told["mean"]), tuple(told["std"])  # in place of the data's
        if weights not in (None, "timm"):
            self._load(Path(str(weights)).expanduser())

    def _load(self, path: Path) -> None:
        if not path.is_file():
            raise LeanvitError(f"model.weights={path}: there is no such file")
        found, wanted = read_weights(path), self.net.state_dict()
        heads = self.net.pretrained_cfg.get("classifier") or ()
        heads = (heads,) if isinstance(heads, str) else heads
        for key in (f"{head}.{part}" for head in heads for part in ("weight", "bias")):
            if key in wanted and getattr(found.get(key), "shape", None) != wanted[key].shape:
                found[key] = wanted[key]  # of other classes, or none
        if words := mismatch(found, wanted):
            raise LeanvitError(f"model.weights={path} are weights of another net: {words}")
        if not next(self.net.parameters()).is_meta:
            self.net.load_state_dict(found)

    @property
    def head(self) -> nn.Module:
        """The classifier."""
        return self.net.get_classifier()

    def forward(
        self, images: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch classes"]:
        return self.net(images)


def _created(create: Any, name: str, image_size: int, given: dict[str, Any]) -> nn.Module:
    """Of this size, where the net has one."""
    try:
        return create(name, img_size=image_size, **given)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
    return create(name, **given)
