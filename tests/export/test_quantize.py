"""Block quantisation: how wrong it may be, and that kernels read what was written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgevlm.errors import ContractError
from edgevlm.export.graph import MS, DataFile, GraphBuilder
from edgevlm.export.quantize import (
    BLOCK,
    QuantBlocks,
    quantize_asymmetric,
    quantize_symmetric,
    stack_rows,
)

Float32 = NDArray[np.float32]
Quantize = Callable[[Float32], QuantBlocks]
KINDS: dict[str, Quantize] = {
    "asymmetric 4": lambda m: quantize_asymmetric(m, 4),
    "asymmetric 8": lambda m: quantize_asymmetric(m, 8),
    "symmetric 4": lambda m: quantize_symmetric(m, 4),
    "symmetric 8": lambda m: quantize_symmetric(m, 8),
}
QUIET = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def matrices(draw: st.DrawFn) -> Float32:
    """Whole blocks of every character: normal, one-sided, constant, zero, with outliers, ties."""
    rows, blocks = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    if draw(st.booleans()):
        element = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)
        return draw(arrays(np.float32, (rows, blocks * BLOCK), elements=element))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    made = random.normal(draw(st.sampled_from([0, 0.5, -3])), 1, (rows, blocks, BLOCK))
    for row in made:
        for block in row:
            match draw(st.integers(0, 6)):
                case 0:
                    block[:] = 0
                case 1:
                    block[:] = block[0]
                case 2:
                    block[draw(st.integers(0, BLOCK - 1))] *= 1000
                case 3:
                    block[:] = np.abs(block)
                case 4:
                    block[:] = -np.abs(block)
                case 5:
                    block[:] = np.rint(block * 2)
    scale = draw(st.sampled_from([1e-3, 1.0, 100.0]))
    return (made * scale).astype(np.float32).reshape(rows, -1)


def half_step(kind: str, blocks: Float32) -> NDArray[np.float64]:
    """Half a step of plain rounding over each block's range: what textbooks promise."""
    wide = blocks.astype(np.float64)
    bits = int(kind[-1])
    if kind.startswith("asymmetric"):
        return (np.maximum(wide.max(-1), 0) - np.minimum(wide.min(-1), 0)) / (2**bits - 1) / 2
    return np.abs(wide).max(-1) / (2 ** (bits - 1) - 1) / 2


@pytest.mark.parametrize("kind", KINDS)
@QUIET
@given(matrix=matrices())
def test_squared_error_is_at_most_that_of_plain_rounding(kind: str, matrix: Float32) -> None:
    found = KINDS[kind](matrix).dequantize()
    blocks = matrix.reshape(len(matrix), -1, BLOCK)
    error = found.reshape(blocks.shape).astype(np.float64) - blocks
    allowed = BLOCK * half_step(kind, blocks) ** 2
    assert np.all(np.square(error).sum(-1) <= allowed * (1 + 1e-4) + 1e-12)


@pytest.mark.parametrize("kind", KINDS)
@QUIET
@given(matrix=matrices())
def test_every_value_is_at_its_nearest_step(kind: str, matrix: Float32) -> None:
    quantised = KINDS[kind](matrix)
    bits, shape = quantised.bits, quantised.scales.shape
    zeros = np.full(shape, 2 ** (bits - 1)) if quantised.zeros is None else quantised.zeros
    blocks = matrix.reshape(*shape, BLOCK).astype(np.float64)
    steps = np.arange(2**bits) - zeros[..., None].astype(np.float64)
    grid = steps * quantised.scales[..., None].astype(np.float64)
    found = np.take_along_axis(grid, quantised.values.astype(np.int64), -1)
    nearest = np.abs(blocks[..., None] - grid[:, :, None, :]).min(-1)
    slack = np.abs(quantised.scales)[..., None] * 1e-4
    assert np.all(np.abs(blocks - found) <= nearest + slack)
    assert np.array_equal(found.reshape(matrix.shape).astype(np.float32), quantised.dequantize())


@pytest.mark.parametrize("kind", KINDS)
@QUIET
@given(matrix=matrices())
def test_zero_stays_zero(kind: str, matrix: Float32) -> None:
    matrix[:, ::3] = 0
    assert not KINDS[kind](matrix).dequantize()[:, ::3].any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 0.3, -7e-6, 12345.0])
def test_a_constant_block_is_kept(kind: str, value: float) -> None:
    matrix = np.full((2, 3 * BLOCK), value, np.float32)
    assert np.allclose(KINDS[kind](matrix).dequantize(), matrix, rtol=2e-7, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_values_on_a_grid_of_that_many_steps_are_kept(kind: str) -> None:
    bits = int(kind[-1])
    levels = np.linspace(0, 2**bits - 1, BLOCK).round()
    grid = (levels - 2 ** (bits - 1)) * 0.25
    matrix = np.random.default_rng(0).permuted(np.tile(grid, (5, 1)), axis=1).astype(np.float32)
    assert np.array_equal(KINDS[kind](matrix).dequantize(), matrix)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("power", [-60, -20, 20, 60, 100])
def test_a_power_of_two_scales_through(kind: str, power: int) -> None:
    matrix = np.random.default_rng(1).normal(0, 1, (8, 4 * BLOCK)).astype(np.float32)
    factor = np.float32(2.0**power)
    plain, scaled = (KINDS[kind](m).dequantize() for m in (matrix, matrix * factor))
    if abs(power) <= 20:
        assert np.array_equal(plain * factor, scaled)
    limit = half_step(kind, matrix.reshape(8, -1, BLOCK)).max()
    assert np.abs(scaled / factor - matrix).max() < 3 * limit


@pytest.mark.parametrize("kind", ["asymmetric 4", "symmetric 4"])
def test_shrinking_the_range_beats_plain_rounding_on_normal_weights(kind: str) -> None:
    matrix = np.random.default_rng(2).normal(0, 1, (256, 8 * BLOCK)).astype(np.float32)
    blocks = matrix.reshape(256, -1, BLOCK)
    step = 2 * half_step(kind, blocks)[..., None]
    plain = np.rint(blocks / step) * step
    ours = KINDS[kind](matrix).dequantize().reshape(blocks.shape)
    assert np.square(ours - blocks).mean() < 0.95 * np.square(plain - blocks).mean()


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_does_not_depend_on_its_neighbours(kind: str) -> None:
    matrix = np.random.default_rng(3).normal(0, 1, (2050, BLOCK)).astype(np.float32)
    whole = KINDS[kind](matrix)
    for row in (0, 1, 2047, 2048, 2049):
        alone = KINDS[kind](matrix[row : row + 1])
        assert np.array_equal(whole.values[row], alone.values[0])
        assert np.array_equal(whole.scales[row], alone.scales[0])


def test_nibbles_are_packed_low_first() -> None:
    values = np.arange(64, dtype=np.uint8).reshape(1, 2, 32) % 16
    zeros = np.array([[3, 12]], np.uint8)
    blocks = QuantBlocks(bits=4, values=values, scales=np.ones((1, 2), np.float32), zeros=zeros)
    packed = blocks.packed_values()
    assert packed.shape == (1, 2, 16)
    assert packed[0, 0, 0] == 0x10
    assert packed[0, 0, 7] == 0xFE
    found = blocks.packed_zeros()
    assert found is not None
    assert found.tolist() == [[0xC3]]


@pytest.mark.parametrize("blocks", [1, 2, 3, 5, 8])
def test_an_odd_number_of_zero_points_is_padded_row_by_row(blocks: int) -> None:
    zeros = np.random.default_rng(0).integers(0, 16, (3, blocks)).astype(np.uint8)
    values = np.zeros((3, blocks, BLOCK), np.uint8)
    made = QuantBlocks(bits=4, values=values, scales=np.ones((3, blocks), np.float32), zeros=zeros)
    packed = made.packed_zeros()
    assert packed is not None
    assert packed.shape == (3, (blocks + 1) // 2)
    unpacked = np.stack([packed & 15, packed >> 4], -1).reshape(3, -1)
    assert np.array_equal(unpacked[:, :blocks], zeros)
    assert not unpacked[:, blocks:].any()


def kernel(folder: Path, blocks: QuantBlocks, x: Float32, accuracy: int) -> Float32:
    """What ONNX Runtime's MatMulNBits makes of the packed bytes."""
    with DataFile(folder / "g.onnx.data") as data:
        g = GraphBuilder("one", data)
        g.input("x", "float32", ("rows", blocks.in_features))
        inputs = ["x", "values", "scales"]
        g.weight("values", blocks.packed_values())
        g.weight("scales", blocks.scales)
        zeros = blocks.packed_zeros()
        if zeros is not None:
            g.weight("zeros", zeros)
            inputs.append("zeros")
        g.output("y", "float32", ("rows", len(blocks.values)))
        g.node(
            "MatMulNBits",
            inputs,
            "one",
            outputs=["y"],
            domain=MS,
            K=blocks.in_features,
            N=len(blocks.values),
            bits=blocks.bits,
            block_size=blocks.block_size,
            accuracy_level=accuracy,
        )
        g.save(folder / "g.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(folder / "g.onnx"), options, providers=["CPUExecutionProvider"]
    )
    found: Float32 = session.run(["y"], {"x": x})[0]
    return found


@pytest.mark.parametrize("asymmetric", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
@QUIET
@given(
    rows=st.integers(1, 5),
    out=st.integers(1, 40),
    blocks=st.integers(1, 9),
    seed=st.integers(0, 2**32),
)
def test_the_kernel_multiplies_by_the_dequantised_matrix(
    tmp_path: Path, bits: int, asymmetric: bool, rows: int, out: int, blocks: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    made = QuantBlocks(
        bits=bits,
        values=random.integers(0, 2**bits, (out, blocks, BLOCK)).astype(np.uint8),
        scales=random.normal(0, 0.1, (out, blocks)).astype(np.float32),
        zeros=random.integers(0, 2**bits, (out, blocks)).astype(np.uint8) if asymmetric else None,
    )
    x = random.normal(0, 1, (rows, blocks * BLOCK)).astype(np.float32)
    exact = x.astype(np.float64) @ made.dequantize().T.astype(np.float64)
    size = np.abs(x).astype(np.float64) @ np.abs(made.dequantize().T).astype(np.float64)
    float_error = np.abs(kernel(tmp_path, made, x, 0) - exact)
    assert np.all(float_error <= 4e-6 * size)
    int8_error = np.abs(kernel(tmp_path, made, x, 4) - exact)
    assert np.all(int8_error <= 2e-2 * size)


@pytest.mark.parametrize("accuracy", [0, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_a_quantised_matrix_multiplies_nearly_like_the_original(
    tmp_path: Path, kind: str, accuracy: int
) -> None:
    random = np.random.default_rng(5)
    matrix = random.normal(0, 0.05, (96, 7 * BLOCK)).astype(np.float32)
    matrix[::7, ::50] *= 20
    x = random.normal(0, 1, (3, 7 * BLOCK)).astype(np.float32)
    found = kernel(tmp_path, KINDS[kind](matrix), x, accuracy)
    exact = x @ matrix.T
    relative = np.sqrt(np.square(found - exact).mean() / np.square(exact).mean())
    assert relative < {"4": 0.2, "8": 0.015}[kind[-1]]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_can_be_reordered_and_stacked_without_loss(kind: str) -> None:
    matrix = np.random.default_rng(6).normal(0, 1, (12, 3 * BLOCK)).astype(np.float32)
    quantised = KINDS[kind](matrix)
    order = np.random.default_rng(7).permutation(12)
    assert np.array_equal(quantised.take_rows(order).dequantize(), quantised.dequantize()[order])
    halves = [quantised.take_rows(np.arange(a, b)) for a, b in ((0, 5), (5, 12))]
    whole = stack_rows(halves)
    assert np.array_equal(whole.packed_values(), quantised.packed_values())
    assert np.array_equal(whole.dequantize(), quantised.dequantize())


def test_matrices_of_different_kinds_are_not_stacked() -> None:
    matrix = np.ones((2, BLOCK), np.float32)
    for odd in (
        quantize_symmetric(matrix, 4),
        quantize_asymmetric(matrix, 8),
        quantize_asymmetric(np.ones((2, 2 * BLOCK), np.float32), 4),
    ):
        with pytest.raises(ContractError, match="differently quantised"):
            stack_rows([quantize_asymmetric(matrix, 4), odd])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [1, 31, 33, 48])
def test_a_width_of_broken_blocks_is_named(kind: str, width: int) -> None:
    with pytest.raises(ContractError, match=f"in-features {width} is not a multiple"):
        KINDS[kind](np.ones((2, width), np.float32))
