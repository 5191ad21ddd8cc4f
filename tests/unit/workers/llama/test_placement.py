"""Where a model lies: all on the GPU if there is one, and never silently elsewhere than asked for."""

from __future__ import annotations

import pytest

from inference_mesh.errors import ModelNotReadyError
from workers.llama.native import has_gpu, llama
from workers.llama.placement import Placement, gpu_layers, place_context, place_model, uses_gpu_memory


@pytest.mark.parametrize(
    ("asked", "gpu", "expected"),
    [(None, True, -1), (None, False, 0), (0, True, 0), (0, False, 0), (20, True, 20), (-1, True, -1)],
)
def test_layers_go_to_the_gpu_if_there_is_one_and_nothing_else_is_asked(
    asked: int | None, gpu: bool, expected: int
) -> None:
    assert gpu_layers(Placement(gpu_layers=asked), has_gpu=gpu) == expected


@pytest.mark.parametrize("asked", [-1, 1, 20])
def test_layers_that_are_asked_for_without_a_gpu_are_refused(asked: int) -> None:
    with pytest.raises(ModelNotReadyError, match=f"gpu_layers is {asked}"):
        gpu_layers(Placement(gpu_layers=asked), has_gpu=False)


def test_the_memory_of_the_host_is_no_limit_for_what_lies_on_a_gpu() -> None:
    assert uses_gpu_memory(Placement(), has_gpu=True)
    assert not uses_gpu_memory(Placement(offloads_kv=False), has_gpu=True)
    assert not uses_gpu_memory(Placement(), has_gpu=False)


def test_llama_cpp_is_told() -> None:
    library = llama()
    model, context = library.llama_model_default_params(), library.llama_context_default_params()
    placement = Placement(
        main_gpu=1, split_mode="row", tensor_split=(3, 1)[: library.llama_max_devices()],
        flash_attention="on", cache_type="q8_0", offloads_kv=False,
    )  # fmt: skip
    shares = place_model(model, placement, library)
    place_context(context, placement, library)
    assert (model.main_gpu, model.split_mode, model.n_gpu_layers) == (1, 2, -1 if has_gpu() else 0)
    assert model.tensor_split[0] == 3
    assert (context.type_k, context.type_v) == (8, 8)
    assert (context.flash_attn_type, context.offload_kqv) == (1, False)
    del shares


def test_more_shares_than_devices_are_refused() -> None:
    library = llama()
    shares = (1.0,) * (library.llama_max_devices() + 1)
    with pytest.raises(ModelNotReadyError, match="tensor_split"):
        place_model(library.llama_model_default_params(), Placement(tensor_split=shares), library)


def test_what_is_left_open_is_llama_cpps_to_choose_and_values_are_as_keys() -> None:
    library = llama()
    params = library.llama_context_default_params()
    place_context(params, Placement(), library)
    assert params.flash_attn_type == library.LLAMA_FLASH_ATTN_TYPE_AUTO
    assert params.type_k == params.type_v == 1


def test_values_may_have_a_type_of_their_own_and_its_size_counts() -> None:
    library = llama()
    params = library.llama_context_default_params()
    placement = Placement(cache_type="f32", value_type="f16")
    place_context(params, placement, library)
    assert (params.type_k, params.type_v) == (0, 1)
    assert placement.cache_value_bytes == 3.0
