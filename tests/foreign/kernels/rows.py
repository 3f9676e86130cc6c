"""What goes over each row of a matrix: LayerNorm, softmax and prefix sums."""

import triton
import triton.language as tl


@triton.jit
def layer_norm(x, weight, bias, y, N, epsilon, BLOCK: tl.constexpr):
    """y[row] = (x[row] - mean) / sqrt(variance + epsilon) weight + bias, a row a CTA, in one block."""
    row = tl.program_id(0)
    columns = tl.arange(0, BLOCK)
    is_there = columns < N
    values = tl.load(x + row * N + columns, mask=is_there, other=0.0).to(tl.float32)
    mean = tl.sum(values, 0) / N
    centred = tl.where(is_there, values - mean, 0.0)
    scale = 1 / tl.sqrt(tl.sum(centred * centred, 0) / N + epsilon)
    factor = tl.load(weight + columns, mask=is_there, other=0.0).to(tl.float32)
    shift = tl.load(bias + columns, mask=is_there, other=0.0).to(tl.float32)
    tl.store(y + row * N + columns, (centred * scale * factor + shift).to(y.dtype.element_ty), mask=is_there)


@triton.jit
def softmax(x, y, rows, N, BLOCK: tl.constexpr, CTAS: tl.constexpr):
    """y[row] = softmax(x[row]), every CTAS-th row a CTA, in two passes over blocks of a row."""
    for row in range(tl.program_id(0), rows, CTAS):
        top = tl.full((BLOCK,), -1e30, tl.float32)
        total = tl.zeros((BLOCK,), tl.float32)
        for first in range(0, N, BLOCK):
            columns = first + tl.arange(0, BLOCK)
            values = tl.load(x + row * N + columns, mask=columns < N, other=-1e30).to(tl.float32)
            new_top = tl.maximum(top, values)
            total = total * tl.exp(top - new_top) + tl.where(columns < N, tl.exp(values - new_top), 0.0)
            top = new_top
        most = tl.max(top, 0)
        sum = tl.sum(total * tl.exp(top - most), 0)
        for first in range(0, N, BLOCK):
            columns = first + tl.arange(0, BLOCK)
            values = tl.load(x + row * N + columns, mask=columns < N, other=0.0).to(tl.float32)
            tl.store(y + row * N + columns, (tl.exp(values - most) / sum).to(y.dtype.element_ty), mask=columns < N)


@triton.jit
def prefix_sum(x, y, rows, N, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """y[row, i] = x[row, 0] + ... + x[row, i], ROWS rows a CTA, in one block."""
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS))[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    is_there = (row < rows) & (column < N)
    values = tl.load(x + row * N + column, mask=is_there, other=0.0)
    tl.store(y + row * N + column, tl.cumsum(values, 1), mask=is_there)
