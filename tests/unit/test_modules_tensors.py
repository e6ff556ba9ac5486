"""Batches on their way to the device and back."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from modules.tensors import Download, Uploader


def image(value: int, shape: tuple[int, ...] = (4, 6, 3)) -> NDArray[np.uint8]:
    return np.full(shape, value, np.uint8)


def test_images_arrive_in_order_channels_last_without_another_copy() -> None:
    first = np.arange(72, dtype=np.uint8).reshape(4, 6, 3)

    batch = Uploader("cpu")([first, image(7)])

    assert batch.shape == (2, 3, 4, 6)
    assert batch.dtype == torch.uint8
    assert batch.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(batch[0].permute(1, 2, 0).numpy(), first)
    assert (batch[1] == 7).all()


def test_buffers_take_turns_and_are_used_again() -> None:
    upload = Uploader("cpu", buffers=2)

    first = upload([image(1)])
    second = upload([image(2)])
    assert (first == 1).all()
    third = upload([image(3)])

    assert third.data_ptr() == first.data_ptr() != second.data_ptr()
    assert (second == 2).all()


def test_a_buffer_grows_and_serves_smaller_batches_after_that() -> None:
    upload = Uploader("cpu", buffers=1)

    small = upload([image(1)])
    large = upload([image(2, (8, 8, 3))] * 3)
    assert large.shape == (3, 3, 8, 8)
    assert (large == 2).all()
    again = upload([image(3)])

    assert again.data_ptr() == large.data_ptr() != small.data_ptr()
    assert (again == 3).all()


@pytest.mark.parametrize("images", [[], [image(0), image(0, (6, 4, 3))]])
def test_only_images_of_one_shape_make_a_batch(images: list[NDArray[np.uint8]]) -> None:
    with pytest.raises(ValueError, match="array"):
        Uploader("cpu")(images)


def test_what_is_on_the_host_already_is_not_copied() -> None:
    tensor = torch.arange(3)

    (arrived,) = Download(tensor).wait()

    assert arrived is tensor
