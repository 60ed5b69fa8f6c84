"""Explicit SIMD for numba: vectors of 16, 32 or 64 lanes as values inside compiled functions.

The compiler's own vectoriser gives up on loops over parts of arrays (computed indices, possible
overlap, lengths known only at run time). Here a kernel loads lanes, calculates with ``+ - * >=`` and
stores them; LLVM maps them on whatever registers the machine has. No operation is contracted or
reordered, so results are those of the scalar code.
"""

import operator

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, overload, register_model


class Lanes(types.Type):
    """Numba type of ``count`` elements (bool for the result of a comparison)."""

    def __init__(self, element: types.Type, count: int) -> None:
        self.element, self.count = element, count
        super().__init__(name=f"Lanes({element}, {count})")

    def llvm(self, context) -> ir.VectorType:
        """The LLVM vector behind the type."""
        if self.element == types.boolean:
            return ir.VectorType(ir.IntType(1), self.count)
        return ir.VectorType(context.get_value_type(self.element), self.count)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager, lanes: Lanes) -> None:
        if lanes.element == types.boolean:
            element = ir.IntType(1)
        else:
            element = manager.lookup(lanes.element).get_value_type()
        super().__init__(manager, lanes, ir.VectorType(element, lanes.count))


def _pointer(context, builder, array_type, array, index, vector):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _loader(count: int):
    @intrinsic
    def load(typing, array, index):
        lanes = Lanes(array.dtype, count)

        def generate(context, builder, signature, arguments):
            vector = lanes.llvm(context)
            place = _pointer(context, builder, array, *arguments, vector)
            return builder.load(place, align=array.dtype.bitwidth // 8)

        return lanes(array, types.intp), generate

    return load


load16, load32, load64 = _loader(16), _loader(32), _loader(64)


@intrinsic
def store(typing, array, index, value):
    """Write all lanes of ``value`` to ``array[index:]`` (one contiguous dimension)."""

    def generate(context, builder, signature, arguments):
        array_value, position, vector = arguments
        place = _pointer(context, builder, array, array_value, position, vector.type)
        builder.store(vector, place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


@intrinsic
def splat16(typing, scalar):
    """Sixteen copies of a scalar."""
    lanes = Lanes(scalar, 16)

    def generate(context, builder, signature, arguments):
        vector = lanes.llvm(context)
        first = builder.insert_element(
            ir.Constant(vector, ir.Undefined), arguments[0], ir.Constant(ir.IntType(32), 0)
        )
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), 16), None)
        return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), zeros)

    return lanes(scalar), generate


def _binary(symbol, of_float: str, of_integer: str, comparison: str | None = None):
    @intrinsic
    def apply(typing, left, right):
        result = Lanes(types.boolean, left.count) if comparison else left

        def generate(context, builder, signature, arguments):
            if comparison:
                return builder.fcmp_ordered(comparison, *arguments)
            name = of_float if isinstance(left.element, types.Float) else of_integer
            return getattr(builder, name)(*arguments)

        return result(left, left), generate

    @overload(symbol)
    def operation(left, right):
        if isinstance(left, Lanes) and left == right:
            return lambda left, right: apply(left, right)
        return None


_binary(operator.add, "fadd", "add")
_binary(operator.sub, "fsub", "sub")
_binary(operator.mul, "fmul", "mul")
_binary(operator.or_, "", "or_")
_binary(operator.ge, "", "", ">=")


@intrinsic
def to_float(typing, value):
    """Integers as float32."""
    lanes = Lanes(types.float32, value.count)

    def generate(context, builder, signature, arguments):
        return builder.sitofp(arguments[0], lanes.llvm(context))

    return lanes(value), generate


@intrinsic
def to_int(typing, mask):
    """0 or 1 as int32 for each lane of a mask."""
    lanes = Lanes(types.int32, mask.count)

    def generate(context, builder, signature, arguments):
        return builder.zext(arguments[0], lanes.llvm(context))

    return lanes(mask), generate


@intrinsic
def select(typing, mask, yes, no):
    """``yes`` where the mask is set, ``no`` elsewhere."""

    def generate(context, builder, signature, arguments):
        return builder.select(*arguments)

    return yes(mask, yes, yes), generate


@intrinsic
def to_bits(typing, mask):
    """The mask as an integer, lane i in bit i (uint16 for 16 lanes)."""
    integer = types.uint16

    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(16))

    return integer(mask), generate


@intrinsic
def trailing_zeros(typing, word):
    """Index of the lowest set bit of a uint64 that is not zero."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.intp(word), generate
