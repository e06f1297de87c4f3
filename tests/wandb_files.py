"""What stands in an offline run of Weights & Biases: a log like LevelDB's of protobuf records."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, 7  # bytes


def read(run_dir: Path) -> dict[str, Any]:
    """Its rows of history, the last of its summary, and what it says of itself."""
    (path,) = run_dir.glob("wandb/offline-run-*/run-*.wandb")
    found: dict[str, Any] = {"history": [], "summary": {}}
    for record in _records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            found["history"].append(_values(record.history.item))
        elif kind == "summary":
            found["summary"] |= _values(record.summary.update)
        elif kind == "run":
            run = record.run
            config = {each.key: json.loads(each.value_json) for each in run.config.update}
            found |= {"id": run.run_id, "name": run.display_name, "group": run.run_group}
            found |= {"tags": list(run.tags), "config": config}
    return found


def _values(items: Any) -> dict[str, Any]:
    return {each.key or "/".join(each.nested_key): json.loads(each.value_json) for each in items}


def _records(data: bytes) -> Iterator[Any]:
    from wandb.proto import wandb_internal_pb2

    place, whole = HEADER, b""  # the file begins with a header of its own
    while place + HEADER <= len(data):
        left = BLOCK - place % BLOCK
        if left < HEADER:
            place += left
            continue
        size = int.from_bytes(data[place + 4 : place + 6], "little")
        kind = data[place + 6]  # 1: all of a record, 2, 3, 4: its first, a middle, its last part
        whole += data[place + HEADER : place + HEADER + size]
        place += HEADER + size
        if kind in (1, 4):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""
