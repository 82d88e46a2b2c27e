"""Work that pauses wherever the disk must have done something."""

import os
from contextlib import closing

import pytest

from node.disk import Disk, Sync
from node.steps import at_once, begin
from tests.wait import until


def work(*descriptors):
    try:
        for descriptor in descriptors:
            yield Sync(descriptor)
    except OSError as error:
        raise ValueError("the disk failed") from error
    return "done"


def test_each_is_synced_before_the_work_goes_on(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)

    assert at_once(work(7, 8)) == "done"
    assert synced == [7, 8]


def test_who_has_nothing_to_sync_has_a_result():
    assert at_once(work()) == "done"


def test_the_work_hears_of_a_sync_that_fails():
    reader, writer = os.pipe()
    try:
        # A pipe cannot be synced.
        with pytest.raises(ValueError, match="the disk failed") as caught:
            at_once(work(writer))
    finally:
        os.close(reader)
        os.close(writer)

    assert isinstance(caught.value.__cause__, OSError)


def test_work_goes_on_while_others_wait_for_the_disk(tmp_path):
    ended = []
    with closing(Disk()) as disk, (tmp_path / "file").open("wb") as file:
        for _ in range(3):
            begin(work(file.fileno(), file.fileno()), disk, ended.append)

        until(lambda: disk.hear() or len(ended) == 3, seconds=30)

    assert ended == ["done"] * 3


def test_who_began_it_hears_of_what_fails():
    reader, writer = os.pipe()
    ended = []
    with closing(Disk()) as disk:
        begin(work(writer), disk, ended.append)

        until(lambda: disk.hear() or ended, seconds=30)
    os.close(reader)
    os.close(writer)

    assert [str(each) for each in ended] == ["the disk failed"]
