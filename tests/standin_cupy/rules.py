"""What CuPy 14.2.0 has and lacks, read from `dir(cupy)`, its signatures and its sources."""

from __future__ import annotations


def _names(text: str) -> set[str]:
    return set(text.split())


CONSTANTS = _names(  # NumPy's own objects, in CuPy too
    """bool bool_ broadcast_shapes byte complex64 complex128 complexfloating double dtype e euler_gamma finfo float16
    float32 float64 floating generic half iinfo index_exp inexact inf int16 int32 int64 int8 int_ intc integer intp
    isdtype issubdtype longlong nan ndindex newaxis number pi promote_types s_ short signedinteger single ubyte uint
    uint16 uint32 uint64 uint8 uintc uintp ulonglong unsignedinteger ushort"""
)
UFUNCS = _names(
    """abs absolute acos acosh add arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan atan2 atanh
    bitwise_and bitwise_count bitwise_invert bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor
    cbrt ceil conj conjugate copysign cos cosh deg2rad degrees divide divmod equal exp exp2 expm1 fabs float_power floor
    floor_divide fmax fmin fmod frexp gcd greater greater_equal heaviside hypot invert isfinite isinf isnan lcm ldexp
    left_shift less less_equal log log10 log1p log2 logaddexp logaddexp2 logical_and logical_not logical_or logical_xor
    matmul maximum minimum mod modf multiply negative nextafter not_equal positive pow power rad2deg radians reciprocal
    remainder right_shift rint sign signbit sin sinh sqrt square subtract tan tanh true_divide trunc"""
)
FUNCTIONS = _names(
    """all allclose amax amin angle any append arange argmax argmin argpartition argsort argwhere around array_equal
    array_equiv array_split ascontiguousarray astype atleast_1d atleast_2d atleast_3d average bincount broadcast_arrays
    broadcast_to can_cast choose clip column_stack compress concat concatenate convolve copy copyto correlate
    count_nonzero cross cumprod cumsum cumulative_prod cumulative_sum delete diag diag_indices diag_indices_from
    diagflat diagonal diff digitize dot dsplit dstack ediff1d einsum empty empty_like expand_dims extract eye
    fill_diagonal flatnonzero flip fliplr flipud full full_like gradient histogram hsplit hstack identity imag indices
    inner interp intersect1d isclose iscomplexobj isfortran isin isneginf isposinf isrealobj isscalar ix_ kron linspace
    logspace matrix_transpose max may_share_memory mean median meshgrid min min_scalar_type moveaxis nan_to_num
    nanargmax nanargmin nancumprod nancumsum nanmax nanmean nanmedian nanmin nanprod nanstd nansum nanvar ndim nonzero
    ones ones_like outer pad partition percentile permute_dims place prod ptp put put_along_axis putmask quantile ravel
    ravel_multi_index real repeat require reshape resize result_type roll rollaxis rot90 round searchsorted select
    setdiff1d setxor1d shape shares_memory sinc size sort split squeeze stack std sum swapaxes take take_along_axis
    tensordot tile trace transpose trapezoid tri tril tril_indices triu triu_indices union1d unique unique_all
    unique_counts unique_inverse unique_values unravel_index var vdot vsplit vstack where zeros zeros_like"""
)
LINALG = _names("cholesky det eigh eigvalsh inv lstsq matrix_power matrix_rank norm pinv qr slogdet solve svd")
ATTRIBUTES = _names("shape dtype ndim size itemsize nbytes strides")
METHODS = _names(
    """all any argmax argmin argpartition argsort astype choose clip compress conj conjugate copy cumprod cumsum
    diagonal dot flatten max mean min nonzero partition prod put ravel repeat reshape round searchsorted sort squeeze
    std sum swapaxes take trace transpose var view"""
)
GENERATOR = _names(  # no normal, no choice, no permutation, no shuffle
    """beta binomial chisquare dirichlet exponential f gamma geometric hypergeometric integers logseries poisson power
    random standard_exponential standard_gamma standard_normal uniform"""
)
DTYPES = set("?bhilqBHILQefdFD")

# Arguments of NumPy's that these functions of CuPy do not take, or take under another name.
REFUSED = {
    **dict.fromkeys(_names("initial like device subok correction stable sorted max_work"), FUNCTIONS),
    "where": FUNCTIONS - {"copyto"},
    "order": {"argpartition", "argsort", "einsum", "partition", "sort"},
    "kind": {"argpartition", "isin", "partition"},
    "weights": {"percentile", "quantile"},
    "mean": {"std", "var", "nanstd", "nanvar"},
    "casting": {"astype", "einsum"},
    "out": {"einsum"},
    "mode": {"take"},
    "keepdims": {"count_nonzero"},
    "sparse": {"indices"},
    "min": {"cupy.clip"},  # the method takes them
    "max": {"cupy.clip"},
    **dict.fromkeys(["hermitian", "rtol", "upper"], LINALG),
    "ar1": {"intersect1d", "union1d"},
    "ar2": {"intersect1d", "union1d"},
    "ary": {"ediff1d"},
    "arr": {"extract", "take_along_axis"},
    "arrays": {"stack"},
    "m": {"flip", "fliplr", "flipud", "rot90"},
    "obj": {"delete"},
    "shape": {"reshape", "unravel_index"},
}
ARGUMENTS_AT_LEAST = {"cupy.clip": 3, "cupy.take_along_axis": 3, "cupy.put_along_axis": 4}
UFUNC_ARGUMENTS = {"out", "dtype", "casting"}  # not where, order, subok
MATMUL_ARGUMENTS = UFUNC_ARGUMENTS | {"axes", "axis", "keepdims", "signature", "order"}
UFUNC_METHODS = {"reduce": {"add", "multiply"}, "accumulate": {"add", "multiply"}, "reduceat": {"add"}}
UFUNC_AT = {  # the dtypes that `ufunc.at` has atomic operations for
    **dict.fromkeys(_names("bitwise_and bitwise_or bitwise_xor"), frozenset("ilqILQ")),
    **dict.fromkeys(_names("maximum minimum"), frozenset("ilqILQfd")),
    "add": set("ilqILQefd"),
    "subtract": set("iI"),
}

# The first argument of a function is a device array, but for shapes and numbers or a sequence of device arrays.
ARRAY_FIRST = FUNCTIONS - _names(
    """arange can_cast diag_indices einsum empty eye full identity indices isscalar linspace logspace min_scalar_type
    ndim ones result_type shape tri tril_indices triu_indices zeros"""
)
SEQUENCE_FIRST = _names("column_stack concat concatenate dstack hstack ravel_multi_index select stack vstack")
# CuPy takes no device array for a shape or an axis: the most device arrays that a call may hold.
_NONE = _names("arange diag_indices empty eye identity indices ones tri tril_indices triu_indices zeros")
_ONE = _names(
    """astype broadcast_to diagonal empty_like expand_dims flip full matrix_transpose moveaxis ones_like
    permute_dims reshape roll rollaxis rot90 squeeze swapaxes tile transpose tril triu zeros_like"""
)
ARRAYS_AT_MOST = {**dict.fromkeys(_NONE, 0), **dict.fromkeys(_ONE, 1)}
NO_LISTS = UFUNCS | _names("allclose array_equal cross dot inner isclose kron outer vdot where")

HOST_RESULTS = _names(  # host values in CuPy too; any other number comes back as a 0-d device array
    """can_cast iscomplexobj isfortran isrealobj isscalar may_share_memory min_scalar_type ndim result_type shape
    shares_memory size"""
)
SYNCHRONISE = _names(  # functions of CuPy that wait for the device and read a number back
    """argwhere bincount choose compress delete extract flatnonzero histogram intersect1d nanmax nanmin
    nonzero place ravel_multi_index setdiff1d setxor1d shares_memory union1d unique unique_all unique_counts
    unique_inverse unique_values"""
)
ANY_DEVICE = _names(  # views, and copies to the current GPU from another
    """copy copyto diagonal expand_dims may_share_memory moveaxis ndim permute_dims reshape result_type rollaxis shape
    size squeeze swapaxes transpose view"""
)
KEEP_LAYOUT = _names("astype copy empty empty_like full full_like ones ones_like require zeros zeros_like")
