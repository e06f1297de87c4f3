"""What went wrong, as one line for the person at the keyboard."""

import codecs
import os
import re
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

from leanvit import files
from leanvit.app import names
from leanvit.errors import LeanvitError
from leanvit.values import nearest

NO_NAME = "(?i:null|true|false|[-+.e0-9]+)"  # what Hydra reads as another kind of value
NO_VALUE = ("_target_", "_partial_", "hydra")  # of a config: nothing for a person to give

# signs that a terminal of another encoding lacks
PLAIN = {"–": "-", "−": "-", "→": "->", "←": "<-", "±": "+-", "…": "...", "×": "x", "’": "'"}


def speak_any_encoding() -> None:
    """Let standard output and error take any text: what their encoding lacks is written plainly,
    and where one is closed, nobody reads it; else the next file that is opened took its number."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        if getattr(sys, name) is None:
            hush(number)
            setattr(sys, name, os.fdopen(number, "w", closefd=False))
    codecs.register_error("plain", _plainly)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="plain")


def hush(number: int) -> None:
    """Let what is written to a file, by its number, be read by nobody."""
    nobody = os.open(os.devnull, os.O_RDWR)
    if nobody != number:
        os.dup2(nobody, number)
        os.close(nobody)
    os.set_inheritable(number, True)


def _plainly(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    return "".join(PLAIN.get(each, "?") for each in missing), error.end


def traceback_wanted() -> bool:
    return os.environ.get("LEANVIT_TRACEBACK") == "1"


def say(error: BaseException, makes_runs: bool = True) -> int:
    """Print an error; the exit status that belongs to it: 2 for the command line, 1 for others.

    Args:
        makes_runs: whether the command goes on where it was; others begin again.
    """
    if isinstance(error, KeyboardInterrupt | SystemExit):  # the one is Ctrl-C, the other a signal
        by = "interrupted" if isinstance(error, KeyboardInterrupt) else f"stopped by {error}"
        then = ": the same command goes on where it was" if makes_runs else ""
        print(f"{by}{then}", file=sys.stderr)
        return int(getattr(error, "code", 130))
    if traceback_wanted():
        traceback.print_exception(error)
    print(f"error: {explain(error)}", file=sys.stderr, flush=True)
    return 2 if isinstance(error, HydraException | OmegaConfBaseException) else 1


def explain(error: BaseException) -> str:
    """One line: what, where, how to mend it; of names, signs that are not seen as escapes."""
    return seen(_explained(error))


def seen(text: str) -> str:
    """On one line, with escapes for what a terminal would obey or not show."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )


def _explained(error: BaseException) -> str:
    cause = error
    while cause.__cause__ is not None and not isinstance(cause, LeanvitError):
        if isinstance(cause, MissingConfigException | OverrideParseException):
            break
        cause = cause.__cause__
    if isinstance(cause, LeanvitError):
        return str(cause)
    if isinstance(cause, MissingConfigException):
        return _unknown_choice(cause)
    if isinstance(cause, OverrideParseException):
        return _unreadable(cause.override)
    text = " ".join(str(cause).split())
    is_composing = isinstance(cause, HydraException | OmegaConfBaseException)
    if is_composing and (line := _unresolved(text, sys.argv[1:])):
        return line
    if isinstance(cause, InterpolationKeyError):
        # Hydra's own places are made of outputs
        key = "outputs" if str(cause.full_key).startswith("hydra.") else cause.full_key
        return f"{key}: {str(cause).splitlines()[0]}, which ${{...}} refers to"
    if isinstance(cause, OmegaConfBaseException):
        if ours := re.match(r"LeanvitError raised while resolving interpolation: (.*)", str(cause)):
            return ours[1]
        return _unknown_key(cause) or text
    if isinstance(cause, OSError) and (line := files.told(cause)):
        return line
    if "shared memory" in str(cause):  # of torch's DataLoader, whose workers pass images by it
        return "too little shared memory in /dev/shm: give it more, or num_workers=0"
    if type(cause).__name__ == "TerminatedWorkerError":  # joblib's
        return "a process of the grid was killed: the same command goes on where it was"
    if _is_out_of_memory(cause):
        return "out of memory: lower batch_size, or choose a smaller model"
    if text.startswith("Config group override must be a string"):
        return _nameless(sys.argv[1:]) or text
    if lost := re.match("Could not delete (?:from config. )?'(.*?)'", text):
        return _not_there(lost[1])
    if foreign := re.match("Could not override '(.*?)'. No match", text):
        return f"there is no choice of {foreign[1]} here: --help tells what there is"
    if several := re.match(r"Ambiguous value for argument '(.*?)' 1\.", text):
        line = f"{several[1]} gives several values: for a grid of them add -m"
        return f"{line}; for one with a comma {quoted(several[1])}" if "/" in several[1] else line
    if isinstance(cause, HydraException):
        return text
    return f"{type(cause).__name__}: {text} (HYDRA_FULL_ERROR=1 shows where)"


def _unreadable(override: str) -> str:
    """What Hydra's grammar cannot read: most often a path with a sign that has a meaning there."""
    key, equals, value = override.partition("=")
    if not re.fullmatch(r"[~+]*[\w./@-]+", key) or not (equals or key.startswith("~")):
        return f"{override} is no choice: write key=value, and quotes around the value alone"
    return f"{key}= cannot be read: {value} has signs that want quotes: {quoted(override)}"


def quoted(override: str) -> str:
    """``key=value`` as a shell takes it, with a value that Hydra takes as it is."""
    key, _, value = override.partition("=")
    # a backslash counts only before a quotation mark
    inner = re.sub(r'(\\*)("|$)', lambda found: 2 * found[1] + (found[2] and '\\"'), value)
    word = f'{key}="{inner}"'
    if word.isprintable():
        return shlex.quote(word)
    # $'...' of a shell has escapes, for the bytes of what one line cannot show
    escaped = re.sub(r"[\\']", r"\\\g<0>", word)
    told = (each if each.isprintable() else "".join(f"\\x{byte:02x}" for byte in os.fsencode(each))
            for each in escaped)  # fmt: skip
    return f"$'{''.join(told)}'"


def _unresolved(text: str, arguments: Sequence[str]) -> str | None:
    """A value with ``${`` that stands for no other value, most often a path."""
    if "nterpolation" not in text and "${" not in text:
        return None
    for word in arguments:
        key, _, value = word.partition("=")
        if "${" in value:
            return (
                f"{key}= cannot be {value}: ${{...}} stands for another value, and there is none "
                "of that name; of a path with these signs, give a link to it"
            )
    return None


def _not_there(left_out: str) -> str:
    """``~key`` or ``~key=choice`` of what is not there."""
    key, equals, choice = left_out.partition("=")
    known = names.keys_of(Path(sys.argv[0]).stem)
    if key in known and equals:
        return f"~{left_out}: {key}= is not {choice} here, ~{key} leaves out whatever it is"
    hint = nearest(key, known) if "." not in key or "@" in key else "no choice here has it"
    return f"~{left_out} leaves out what is not there: {hint}"


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error).lower()


def _unknown_choice(error: MissingConfigException) -> str:
    wanted = error.missing_cfg_file or ""
    if not error.options:
        return f"there is no {wanted}: see the folders of conf/"
    group, _, name = wanted.rpartition("/")
    return f"there is no {group}={name}: {nearest(name, list(error.options))}"


def _nameless(arguments: Sequence[str]) -> str | None:
    """A choice by null or a number; Hydra does not say which."""
    for word in arguments:
        key, _, value = word.partition("=")
        folder = names.ROOT / "conf" / key.partition("@")[0]
        given = [each for each in value.split(",") if re.fullmatch(NO_NAME, each)]
        if given and folder.is_dir():
            choices = sorted(path.stem for path in folder.glob("*.yaml"))
            hint = nearest(given[0], choices)
            return f"there is no {key}={given[0]}: {hint}; ~{key} leaves the choice out"
    return None


def _unknown_key(error: OmegaConfBaseException) -> str | None:
    if error.key is None or not isinstance(error.parent_node, DictConfig):
        return None
    if "Missing mandatory value" in str(error):
        return f"{error.full_key} must be given: {error.full_key}=..."
    root = error.parent_node._get_root()
    if isinstance(root, DictConfig) and "choices" in root:  # not composed, but kept by a run
        return (
            f"the run's config.yaml has no {error.full_key}: it is damaged, or of another version: "
            "train again"
        )
    known = [str(key) for key in error.parent_node if str(key) not in NO_VALUE]
    if str(error.key) in known:
        return None
    if error.key == "outputs" and "run" in known:  # the word of the commands that make runs
        goes = "to output=..." if "output" in known else "into the run's own folder"
        return f"there is no outputs here: runs are named by run=..., what is written goes {goes}"
    where = str(error.full_key).rpartition(".")[0]
    if not known:
        return f"there is no {error.full_key} without a {where}: choose one with {where}=..."
    hint = nearest(str(error.key), known)
    if where and hint.startswith("choose"):
        hint = f"{hint} in {where}"
    if where and any(word.startswith("pretrained=") for word in sys.argv):
        hint += f" For a value of the run's own {where} name that, too: {where}=..."
    return f"there is no {error.full_key}: {hint}"
