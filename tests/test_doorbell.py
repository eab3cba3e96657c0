"""The filesystem transport never shows half a message."""

from __future__ import annotations

import threading
from queue import Empty
from typing import TYPE_CHECKING

from kombu import Connection

from config import doorbell

if TYPE_CHECKING:
    from pathlib import Path

MESSAGES = 300


def test_reader_in_a_loop_meets_every_message_whole(tmp_path: Path) -> None:
    doorbell.install()
    for name in ("ring", "control"):
        (tmp_path / name).mkdir()
    options = {
        "data_folder_in": str(tmp_path / "ring"),
        "data_folder_out": str(tmp_path / "ring"),
        "control_folder": str(tmp_path / "control"),
    }

    def connect() -> Connection:
        return Connection("filesystem://localhost/", transport_options=options)

    def write() -> None:
        with connect() as connection:
            bell = connection.SimpleQueue("bell")
            for number in range(MESSAGES):
                bell.put({"number": number, "padding": "x" * 20_000})
            bell.close()

    seen = set()
    with connect() as connection:
        bell = connection.SimpleQueue("bell")
        assert type(connection.default_channel) is doorbell.Channel
        writer = threading.Thread(target=write)
        writer.start()
        while writer.is_alive() or len(seen) < MESSAGES:
            try:
                message = bell.get(block=False)
            except Empty:
                continue
            seen.add(message.payload["number"])
            message.ack()
        writer.join()
        bell.close()
    assert seen == set(range(MESSAGES))
