"""Vectors of a fixed width in compiled kernels: LLVM's vector type, which stays in registers.

Numba has no vector type, so a kernel would keep sums in small arrays, in memory, at every edge.
Here a row of features is one value of LLVM's type `<width x float>`. LLVM splits it into the
registers that the CPU has.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba.core import types
from numba.extending import intrinsic, models, overload, register_model
from numpy.typing import NDArray

from kgtool.ops.runtime.compiling import INLINED, inlined

# The same as FASTMATH of the loops: LLVM may reorder and fuse sums, but must treat NaN and infinity
# correctly.
_FLAGS = ("reassoc", "contract", "nsz", "arcp")
# Whether the CPU rounds float32 to bfloat16 by an instruction of its own.
_HAS_BFLOAT = binding.get_host_cpu_features().get("avx512bf16", False)


def kernel(function: Any) -> Any:
    """Compile a function for one thread; it releases Python's lock and is cached on disk."""
    return numba.njit(nogil=True, error_model="numpy", cache=True)(function)


def _instruction(function: Any) -> Any:
    """Make a function callable in kernels; it types a call and generates its LLVM code."""
    return intrinsic(function)


class _Lanes(types.Type):
    """A vector of `width` float32 or float64."""

    def __init__(self, scalar: Any, width: int) -> None:
        self.scalar, self.width = scalar, width
        super().__init__(name=f"Lanes({scalar}, {width})")


@register_model(_Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: _Lanes) -> None:
        vector = ir.VectorType(_scalar(lanes), lanes.width)
        super().__init__(manager, lanes, vector)  # type: ignore[no-untyped-call]


def _scalar(lanes: _Lanes) -> Any:
    return ir.FloatType() if lanes.scalar == types.float32 else ir.DoubleType()


def _called(builder: Any, name: str, result: Any, args: Any) -> Any:
    """Generate a call of an LLVM intrinsic."""
    kind = ir.FunctionType(result, [a.type for a in args])
    return builder.call(builder.module.declare_intrinsic(name, fnty=kind), args, fastmath=_FLAGS)


def _suffix(lanes: _Lanes) -> str:
    return f"v{lanes.width}f{lanes.scalar.bitwidth}"


def _arithmetic(instruction: str) -> Any:
    @_instruction
    def operation(typing: Any, a: Any, b: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, instruction)(*args, flags=_FLAGS)

        return a(a, b), generate

    return operation


def _function(name: str) -> Any:
    @_instruction
    def operation(typing: Any, a: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _called(builder, f"llvm.{name}.{_suffix(a)}", args[0].type, args)

        return a(a), generate

    return operation


add = _arithmetic("fadd")
subtract = _arithmetic("fsub")
multiply = _arithmetic("fmul")
divide = _arithmetic("fdiv")
square_root = _function("sqrt")
_floor = _function("floor")
_library_exp = _function("exp")


@_instruction
def fill(typing: Any, like: Any, value: Any) -> Any:
    """A vector of the type of `like` with the number `value` in each lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = args[0].type
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), args[1], ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), like.width), [0] * like.width)
        return builder.shuffle_vector(one, one, zeros)

    return like(like, like.scalar), generate


@_instruction
def total(typing: Any, a: Any) -> Any:
    """The sum of the lanes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        scalar = _scalar(a)
        args = [ir.Constant(scalar, 0.0), args[0]]
        return _called(builder, f"llvm.vector.reduce.fadd.{_suffix(a)}", scalar, args)

    return a.scalar(a), generate


@_instruction
def greater(typing: Any, a: Any, b: Any) -> Any:
    """The lane-wise maximum; `b` where `a` is NaN."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return a(a, b), generate


@_instruction
def lesser(typing: Any, a: Any, b: Any) -> Any:
    """The lane-wise minimum; `b` where `a` is NaN."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", *args), *args)

    return a(a, b), generate


@_instruction
def where_greater(typing: Any, a: Any, b: Any, x: Any) -> Any:
    """`x` in the lanes where `a > b`, else 0."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = ir.Constant(args[2].type, [0.0] * a.width)
        return builder.select(builder.fcmp_ordered(">", args[0], args[1]), args[2], zero)

    return a(a, b, x), generate


@_instruction
def _power_of_two(typing: Any, n: Any) -> Any:
    """`2^n` of float32 lanes `n`, which must hold whole numbers from -126 to 127."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.VectorType(ir.IntType(32), n.width)
        exponent = builder.add(builder.fptosi(args[0], word), ir.Constant(word, [127] * n.width))
        shifted = builder.shl(exponent, ir.Constant(word, [23] * n.width))
        return builder.bitcast(shifted, args[0].type)

    return n(n), generate


def exp(x: Any) -> Any:
    """`e^x` of each lane.

    For float32, results are limited to between e^-87 and e^88, and the relative error is a few
    parts in a million.
    """


@overload(exp, jit_options=INLINED)
def _exp(x):  # type: ignore[no-untyped-def]
    if x.scalar == types.float64:
        return lambda x: _library_exp(x)
    # Cody & Waite: 2^n · 2^f with |f| <= 1/2.
    coefficients = (0.0013333558, 0.009618129, 0.05550411, 0.2402265, 0.6931472, 1.0)

    def exp32(x):  # type: ignore[no-untyped-def] # pragma: no cover
        t = multiply(x, fill(x, 1.4426950408889634))
        t = lesser(greater(t, fill(x, -126)), fill(x, 127))
        n = _floor(add(t, fill(x, 0.5)))
        f = subtract(t, n)
        p = fill(x, 0.000154035)
        for c in numba.literal_unroll(coefficients):
            p = add(multiply(p, f), fill(x, c))
        return multiply(p, _power_of_two(n))

    return exp32


@inlined
def sigmoid(x):  # type: ignore[no-untyped-def] # pragma: no cover
    """`1 / (1 + e^-x)` of each lane."""
    one = fill(x, 1)
    return divide(one, add(one, exp(subtract(fill(x, 0), x))))


def lanes_of(width: int) -> NDArray[Any]:
    """An empty array whose type gives a kernel the number of values in a row."""
    return np.empty(0, f"S{width}")


def _of(array: Any, width: Any) -> _Lanes:
    """The vector type of rows that are loaded from an array."""
    scalar = types.float32 if array.dtype == types.uint16 else array.dtype
    return _Lanes(scalar, width.dtype.count)


def _place(context: Any, builder: Any, signature: Any, args: Any, vector: Any) -> Any:
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.bitcast(builder.gep(data, [args[1]]), vector.as_pointer())


class _BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's bfloat16, which llvmlite does not define."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


@_instruction
def load(typing: Any, array: Any, start: Any, width: Any) -> Any:
    """Read a row of a flat array from `start`, as a vector.

    `width`, from `lanes_of`, gives the number of values. bfloat16 values, which arrays hold as
    uint16, are converted to float32.
    """
    lanes = _of(array, width)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = context.get_value_type(lanes)
        if array.dtype != types.uint16:
            place = _place(context, builder, signature, args, vector)
            return builder.load(place, align=array.dtype.bitwidth // 8)
        place = _place(context, builder, signature, args, ir.VectorType(_BFloat(), lanes.width))
        return builder.fpext(builder.load(place, align=2), vector)

    return lanes(array, types.intp, width), generate


def _to_bfloat(builder: Any, row: Any) -> Any:
    """A vector of float32 as bfloat16, or as the words with its 16 bits.

    On an x86 CPU without an instruction for it, LLVM calls a function of a library that is not
    there, so that the process would crash.
    """
    if _HAS_BFLOAT:
        return builder.fptrunc(row, ir.VectorType(_BFloat(), row.type.count))
    words = ir.VectorType(ir.IntType(32), row.type.count)

    def each(number: int) -> Any:
        return ir.Constant(words, [number] * words.count)

    word = builder.bitcast(row, words)
    odd = builder.and_(builder.lshr(word, each(16)), each(1))
    rounded = builder.add(builder.add(word, each(0x7FFF)), odd)
    # The sum of a NaN may overflow.
    word = builder.select(builder.fcmp_unordered("uno", row, row), each(0x7FC00000), rounded)
    halves = ir.VectorType(ir.IntType(16), words.count)
    return builder.trunc(builder.lshr(word, each(16)), halves)


@_instruction
def store(typing: Any, array: Any, start: Any, value: Any) -> Any:
    """Write a vector to a flat array from `start`; bfloat16 rounds to nearest, ties to even."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        row = args[2]
        if array.dtype == types.uint16:
            row = _to_bfloat(builder, row)
        place = _place(context, builder, signature, args, row.type)
        builder.store(row, place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(array, types.intp, value), generate


@_instruction
def zero(typing: Any, array: Any, width: Any) -> Any:
    """A vector of zeros of the type that `load` gives for the same `array` and `width`."""
    lanes = _of(array, width)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(context.get_value_type(lanes), [0.0] * lanes.width)

    return lanes(array, width), generate
