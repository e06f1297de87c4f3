"""ImageNet weights from torchvision, and which part of a net is fine-tuned."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from leanvit.errors import LeanvitError
from leanvit.models.order import head_parameters, parameters_in_order
from leanvit.weights import mismatch

# mean and standard deviation per channel, in 0..1, of the images that the weights were made with
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

State = dict[str, Tensor]


def check_input_size(input_size: int, multiple: int) -> None:
    """See that an image of ``input_size`` pixels can be cut into patches.

    Raises:
        LeanvitError: it cannot.
    """
    if input_size < multiple or input_size % multiple:
        raise LeanvitError(
            f"model.input_size={input_size} must be a multiple of {multiple}, such as 224"
        )


def find_weights(weights: str, url: str) -> Path:
    """The file of a net's weights, downloaded where it must be.

    Args:
        weights: "imagenet" for torchvision's own, or the path of a file.
        url: of torchvision's own.

    Raises:
        LeanvitError: there is no such file; the message says where to put it.
    """
    if weights != "imagenet":
        path = Path(str(weights)).expanduser()
        if not path.is_file():
            raise LeanvitError(f"model.weights={weights}: there is no such file")
        return path
    path = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(path), path.stem.rpartition("-")[2])
        except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong hash the other
            raise LeanvitError(
                f"model.weights=imagenet: {url} cannot be downloaded "
                f"({' '.join(str(error).split())}): put that file at {path}, or name one with "
                "model.weights=<path>, or train from scratch with model.weights=null"
            ) from error
    return path


def load_weights(net: Any, path: Path, rename: Callable[[State], State]) -> None:
    """Load torchvision's weights into ``net``; a head of other classes, or none, leaves its own.

    Args:
        path: a state dict in torchvision's names.
        rename: from those names to the net's own.

    Raises:
        LeanvitError: not a state dict, or one of another net; the first keys are named.
    """
    found = read_weights(path, rename)
    wanted = net.state_dict(keep_vars=True)
    read, head = (
        {id(each) for each in some} for some in (head_parameters(net), net.head.parameters())
    )
    for name, value in wanted.items():
        is_other = id(value) in head and found.get(name, value).shape != value.shape
        if is_other or (id(value) in read and name not in found):
            found[name] = value.detach()
    if words := mismatch(found, wanted):
        raise LeanvitError(f"model.weights={path} are weights of another net: {words}")
    if not next(net.parameters()).is_meta:
        net.load_state_dict(found)


def read_weights(path: Path, rename: Callable[[State], State] = dict) -> State:
    """A state dict, in the names that ``rename`` gives it.

    Raises:
        LeanvitError: it is none, or damaged, or has not the names that ``rename`` wants.
    """
    try:
        try:  # mapped, not read: a net without storage only compares the shapes
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # a file of an older torch cannot be mapped
            state = torch.load(path, map_location="cpu", weights_only=True)
        return rename(state)
    except Exception as error:  # torch raises many kinds for a damaged file
        raise LeanvitError(
            f"model.weights={path} is damaged or not a state dict in the library's names"
        ) from error


def freeze(net: nn.Module, finetune: str) -> None:
    """Let only a part of ``net`` be trained.

    Args:
        finetune: "all"; "head", with the readout's own weights; or "last_<n>": the last n blocks,
            with the norm and the head; Swin's patch mergings count as blocks.

    Raises:
        LeanvitError: none of these, or the net has fewer blocks.
    """
    if finetune == "all":
        return
    _, *blocks, end = parameters_in_order(net)
    given = re.fullmatch(r"last_(\d+)", finetune)
    num_blocks = int(given[1]) if given else 0
    if finetune != "head" and not 1 <= num_blocks <= len(blocks):
        raise LeanvitError(
            f"model.finetune={finetune}: choose all, head, or last_1 to last_{len(blocks)}"
        )
    last = [each for block in blocks[-num_blocks:] for each in block] + end if num_blocks else []
    net.requires_grad_(False)
    for parameter in [*head_parameters(net), *last]:
        parameter.requires_grad_(True)


def backbone_is_frozen(net: nn.Module) -> bool:
    """Whether nothing but the head, and what the readout weighs, is trained."""
    head = {id(parameter) for parameter in head_parameters(net)}
    return not any(each.requires_grad and id(each) not in head for each in net.parameters())
