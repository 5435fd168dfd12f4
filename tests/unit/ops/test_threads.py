"""Work in threads: results in order, the caller's settings, and correct after a failure."""

from __future__ import annotations

import threading

import pytest
import torch

from kgtool.ops import in_threads


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_order_and_threads_are_put_back(threads):
    assert in_threads(lambda part: part * 2, range(50)) == list(range(0, 100, 2))
    assert in_threads(lambda part: part, []) == []
    assert torch.get_num_threads() == threads


def test_each_part_has_one_thread_and_the_callers_settings(threads):
    def settings(_: int) -> tuple[bool, bool, torch.dtype]:
        half = torch.is_autocast_enabled("cpu")
        return torch.is_grad_enabled(), half, torch.get_autocast_dtype("cpu")

    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert in_threads(settings, range(4)) == [(False, True, torch.bfloat16)] * 4
    assert {one[:2] for one in in_threads(settings, range(4))} == {(True, False)}
    counts = in_threads(lambda _: torch.get_num_threads(), range(4))
    assert set(counts) == {1}


def test_parts_run_side_by_side(threads):
    """Each of three parts waits for the two others; run one after another, none would end."""
    if threads == 1:
        assert in_threads(lambda _: threading.get_ident(), range(3)) == [threading.get_ident()] * 3
        return
    meeting = threading.Barrier(3, timeout=20)
    assert sorted(in_threads(lambda _: meeting.wait(), range(3))) == [0, 1, 2]


def test_a_part_that_fails_is_told_and_threads_are_put_back(threads):
    def fail(part: int) -> int:
        if part == 2:
            raise ValueError("part 2")
        return part

    with pytest.raises(ValueError, match="part 2"):
        in_threads(fail, range(4))
    assert torch.get_num_threads() == threads
