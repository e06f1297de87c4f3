"""What a training shows in a terminal: a bar for the epoch, and a line of each that stays."""

import os
import pty
import re
import threading
from pathlib import Path

from scripts import TINY_DATA, TINY_VIT, fork


def test_bar_and_lines_count_epochs_alike_from_1(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    seen: list[bytes] = []

    def read() -> None:
        while b"ends here" not in (got := os.read(master, 4096)):
            seen.append(got)

    reader = threading.Thread(target=read)
    reader.start()
    asked = [*TINY_DATA, *TINY_VIT, "mix=none", "trainer=cpu", "batch_size=64", "figures=false"]
    child = fork(Path(os.ttyname(slave)), "train.py", *asked, "max_epochs=2",
                 f"outputs={tmp_path}", COLUMNS="120", TERM="xterm")  # fmt: skip
    child.join()
    os.write(slave, b"ends here")
    reader.join()
    assert child.exitcode == 0
    plain = re.sub(r"\x1b\[[0-9;]*m", "", b"".join(seen).decode())  # no colours
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "\n", plain)  # and each place a line
    bars = re.findall(r"^(epoch \S+) +\S*[━╺╸]", text, re.MULTILINE)
    assert list(dict.fromkeys(bars)) == ["epoch 1/2", "epoch 2/2"]
    lines = re.findall(r"^(epoch \S+): train loss \S+ val accuracy .* s(.*)$", text, re.MULTILINE)
    assert [word for word, _ in lines] == ["epoch 1/2", "epoch 2/2"]
    assert "to go" in lines[0][1]
