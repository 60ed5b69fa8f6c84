"""Explicit SIMD for numba: vectors of 8 to 64 lanes as values inside compiled functions.

The compiler's own vectoriser gives up on loops over parts of arrays (computed indices, possible
overlap, lengths known at run time only). Here a kernel loads lanes, calculates with
``+ - * / | >=`` and stores them; LLVM maps them to whatever registers the machine has. Nothing is
contracted or reordered, so the results are those of the scalar code. Indices are not checked.

Kernels are cached by the date of their own file: after a change here, touch those that use it.
"""

import operator
from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, models, overload, register_model


class Lanes(types.Type):
    """Numba type of ``count`` elements; of booleans for the result of a comparison."""

    def __init__(self, element: types.Type, count: int) -> None:
        self.element, self.count = element, count
        super().__init__(name=f"Lanes({element}, {count})")


def _vector(manager: Any, lanes: Lanes) -> ir.VectorType:
    if lanes.element == types.boolean:
        return ir.VectorType(ir.IntType(1), lanes.count)
    return ir.VectorType(manager.lookup(lanes.element).get_value_type(), lanes.count)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, _vector(manager, lanes))


def _pointer(context, builder, array_type, array, index, target):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), target.as_pointer())


def _loader(count: int) -> Callable:
    @intrinsic
    def load(typing, array, index):
        lanes = Lanes(array.dtype, count)

        def generate(context, builder, signature, arguments):
            vector = _vector(context.data_model_manager, lanes)
            place = _pointer(context, builder, array, *arguments, vector)
            return builder.load(place, align=array.dtype.bitwidth // 8)

        return lanes(array, types.intp), generate

    return load


def _splatter(count: int) -> Callable:
    @intrinsic
    def splat(typing, scalar):
        lanes = Lanes(scalar, count)

        def generate(context, builder, signature, arguments):
            vector = _vector(context.data_model_manager, lanes)
            none = ir.Constant(vector, ir.Undefined)
            first = builder.insert_element(none, arguments[0], ir.Constant(ir.IntType(32), 0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), count), None)
            return builder.shuffle_vector(first, none, zeros)

        return lanes(scalar), generate

    return splat


# load8(array, index), ...: that many elements of a contiguous array from ``index`` on.
load8, load16, load32, load64 = _loader(8), _loader(16), _loader(32), _loader(64)
# splat8(scalar), ...: that many copies of a scalar.
splat8, splat16 = _splatter(8), _splatter(16)


@intrinsic
def store(typing, array, index, value):
    """Write all lanes of ``value`` to ``array[index:]``."""

    def generate(context, builder, signature, arguments):
        place = _pointer(context, builder, array, *arguments[:2], arguments[2].type)
        builder.store(arguments[2], place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@intrinsic
def load_word(typing, array, index):
    """64 bits of a uint16 array, from any element on, as uint64."""

    def generate(context, builder, signature, arguments):
        place = _pointer(context, builder, array, *arguments, ir.IntType(64))
        return builder.load(place, align=2)

    return types.uint64(array, types.intp), generate


def _binary(symbol: Callable, instruction: Callable, compares: bool = False) -> None:
    @intrinsic
    def apply(typing, left, right):
        def generate(context, builder, signature, arguments):
            return instruction(builder, isinstance(left.element, types.Float))(*arguments)

        result = Lanes(types.boolean, left.count) if compares else left
        return result(left, left), generate

    @overload(symbol)
    def operation(left, right):
        if isinstance(left, Lanes) and left == right:
            return lambda left, right: apply(left, right)
        return None


_binary(operator.add, lambda build, real: build.fadd if real else build.add)
_binary(operator.sub, lambda build, real: build.fsub if real else build.sub)
_binary(operator.mul, lambda build, real: build.fmul if real else build.mul)
_binary(operator.truediv, lambda build, _: build.fdiv)
_binary(operator.or_, lambda build, _: build.or_)
_binary(operator.ge, lambda build, _: partial(build.fcmp_ordered, ">="), compares=True)


def _rounding(name: str) -> Callable:
    @intrinsic
    def apply(typing, value):
        def generate(context, builder, signature, arguments):
            kind = arguments[0].type
            name_of_kind = f"llvm.{name}.v{kind.count}f{value.element.bitwidth}"
            function = ir.FunctionType(kind, [kind])
            function = cgutils.get_or_insert_function(builder.module, function, name_of_kind)
            return builder.call(function, arguments)

        return value(value), generate

    return apply


# The whole number below, the whole number towards zero, the magnitude; of floats.
floor, trunc, magnitude = _rounding("floor"), _rounding("trunc"), _rounding("fabs")


@intrinsic
def are_doubles(typing, value):
    """Whether lanes are float64: a constant of the compiled code, which loses the other branch."""

    def generate(context, builder, signature, arguments):
        return ir.Constant(ir.IntType(1), int(value.element == types.float64))

    return types.boolean(value), generate


@intrinsic
def select(typing, mask, yes, no):
    """``yes`` where the mask is set, ``no`` elsewhere."""

    def generate(context, builder, signature, arguments):
        return builder.select(*arguments)

    return yes(mask, yes, yes), generate


def _converter(instruction: str) -> Callable:
    @intrinsic
    def convert(typing, value, example):
        lanes = Lanes(example, value.count)

        def generate(context, builder, signature, arguments):
            vector = _vector(context.data_model_manager, lanes)
            return getattr(builder, instruction)(arguments[0], vector)

        return lanes(value, example), generate

    return convert


# Lanes as the type of the scalar ``example``: signed integers as floats, others as wider integers.
to_float, widen = _converter("sitofp"), _converter("zext")


@intrinsic
def to_short(typing, mask):
    """-1 where the mask is set, else 0, as int16."""
    lanes = Lanes(types.int16, mask.count)

    def generate(context, builder, signature, arguments):
        return builder.sext(arguments[0], _vector(context.data_model_manager, lanes))

    return lanes(mask), generate


@intrinsic
def to_bits(typing, value):
    """Sixteen lanes of -1 or 0 (see :func:`to_short`) as a uint16, lane i in bit i."""

    def generate(context, builder, signature, arguments):
        zero = ir.Constant(arguments[0].type, None)
        return builder.bitcast(builder.icmp_signed("<", arguments[0], zero), ir.IntType(16))

    return types.uint16(value), generate


@intrinsic
def from_bits(typing, integer):
    """The mask of sixteen lanes whose lane i is bit i of a uint16."""
    mask = Lanes(types.boolean, 16)

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], _vector(context.data_model_manager, mask))

    return mask(types.uint16), generate


@intrinsic
def population(typing, word):
    """Number of bits set in an integer."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return word(word), generate


@intrinsic
def lowest(typing, word):
    """Place of the lowest set bit of a uint64; there must be one."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.intp(types.uint64), generate
