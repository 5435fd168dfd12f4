"""Work in threads: results in order, the caller's settings, and correct after a failure."""

from __future__ import annotations

import threading

import pytest
import torch

from kgtool.ops import in_threads, product, product_parts, torch_in_one_thread
from kgtool.ops.runtime.threads import num_workers


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
    for parts in (1, 4):
        counts = in_threads(lambda _: torch.get_num_threads(), range(parts))
        assert set(counts) == {1}


def test_torch_works_in_one_thread_and_kernels_in_all(threads):
    with torch_in_one_thread():
        assert (torch.get_num_threads(), num_workers()) == (1, threads)
        with torch_in_one_thread():
            assert (torch.get_num_threads(), num_workers()) == (1, threads)
        assert (torch.get_num_threads(), num_workers()) == (1, threads)
    assert (torch.get_num_threads(), num_workers()) == (threads, threads)


def test_a_part_does_not_divide_its_work_again(threads):
    if threads == 1:
        pytest.skip("one thread computes all parts")
    inner = in_threads(lambda _: in_threads(lambda _: threading.get_ident(), range(3)), range(2))
    assert [len(set(found)) for found in inner] == [1, 1]
    assert in_threads(lambda _: num_workers(), range(2)) == [1, 1]


def test_blocks_in_several_threads_end_in_any_order(threads):
    """The block that ends last puts the user's number back."""
    begun, may_end = threading.Event(), threading.Event()

    def work() -> None:
        with torch_in_one_thread():
            begun.set()
            assert may_end.wait(20)

    other = threading.Thread(target=work)
    with torch_in_one_thread():
        other.start()
        assert begun.wait(20)
    assert torch.get_num_threads() == 1  # the other thread still needs MKL's single thread
    may_end.set()
    other.join()
    with torch_in_one_thread():
        assert num_workers() == threads
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("rows", "parts"), [(0, 1), (1, 1), (33, 2), (300, 6)])
def test_a_product_in_parts_is_the_product(threads, monkeypatch, rows, parts, dtype):
    monkeypatch.setattr("kgtool.ops.runtime.threads.PRODUCT", 64)
    torch.manual_seed(rows)
    x = torch.randn(rows, 5, dtype=dtype, requires_grad=True)
    matrix = torch.randn(5, 7, dtype=dtype, requires_grad=True)
    assert len(product_parts(rows, matrix.numel())) == parts
    found, expected, weight = product(x, matrix), x @ matrix, torch.randn(rows, 7, dtype=dtype)
    torch.testing.assert_close(found, expected)
    own, right = (torch.autograd.grad((y * weight).sum(), [x, matrix]) for y in (found, expected))
    torch.testing.assert_close(own, right)


def test_parts_of_a_product_cover_its_rows():
    for rows in (0, 1, 15, 16, 17, 33, 1000, 14_541, 40_943):
        for many in (1, 1 << 14, 1 << 20, 1 << 30):
            parts = product_parts(rows, many)
            assert [row for part in parts for row in range(part.start, part.stop)] == [*range(rows)]
            assert len(parts) == 1 or min(part.stop - part.start for part in parts) >= 16


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
