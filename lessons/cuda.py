"""A CUDA kernel where there is no GPU: its C is translated into Python and run thread by thread, for the checks of lesson 21.

The translation knows the C that a short kernel needs: declarations, if, for, while, assignments, conditions, arithmetic. It is one pass
of recursive descent: a method for each part of the grammar takes its words from the source and gives, or writes, the Python for it.
What it does not understand it says in a sentence, and so it does what a GPU lets pass: a thread that leaves its array, two threads that
write to the same place.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from lessons.checking import Wrong

_REAL = {"float", "double"}
_TYPES = {*_REAL, "int", "long", "short", "signed", "unsigned", "size_t", "int64_t", "uint32_t", "bool", "const", "auto"}
_PLACES = ("blockIdx", "blockDim", "threadIdx", "gridDim")
_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?[fFuUlL]*)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<sign>\+\+|--|&&|\|\||[-+*/%<>=!]=|[-+*/%<>=!?:;,.(){}\[\]&]))"
)
_LEVELS = (("||", "or"), ("&&", "and"), ("==", "!="), ("<", ">", "<=", ">="), ("+", "-"), ("*", "/", "%"))
_BINDS = {sign: level for level, signs in enumerate(_LEVELS, 1) for sign in signs}  # how closely
_WORDS = {"&&": "and", "||": "or"}
_TURNS = 1_000_000  # of all loops of a kernel together: in the checks a few hundred are enough
_ASSIGNMENTS = ("=", "+=", "-=", "*=", "/=", "%=")


def launch(
    source: str, name: str, blocks: int, threads: int, arguments: Sequence[Any], outside: Mapping[str, str] | None = None
) -> None:
    """Run the kernel `name` of `source` on the CPU, one thread after the other, in an order that is none.

    arguments: arrays, which it may change, and integers. outside: {name of an array: what has usually happened when a thread leaves
    it}. Raises `Wrong`, with a sentence for the learner, for what a compiler would refuse and for what a GPU would not notice.
    """
    kernel = _Translation(source, name)
    if len(kernel.parameters) != len(arguments):
        raise Wrong(
            f"{name} is given {len(arguments)} arguments, but its head has {len(kernel.parameters)}. Leave the head as it is."
        )
    running = [0, 0]
    passed = [
        _Array(parameter, value, running, (outside or {}).get(parameter, "")) if isinstance(value, np.ndarray) else value
        for parameter, value in zip(kernel.parameters, arguments, strict=True)
    ]
    for number in np.random.default_rng(0).permutation(blocks * threads).tolist():
        running[:] = divmod(number, threads)
        block, thread = running
        try:
            with np.errstate(all="ignore"):
                kernel.function(*passed, (block, 0, 0), (threads, 1, 1), (thread, 0, 0), (blocks, 1, 1))
        except UnboundLocalError as error:
            variable = re.findall(r"'(\w+)'", str(error))[0]
            raise Wrong(f"Your kernel reads `{variable}` before it has given it a value; on a GPU that is any number.") from None


class _Array:
    """An array that knows who reads and writes it."""

    def __init__(self, name: str, array: np.ndarray, running: list[int], outside: str) -> None:
        self.name, self.array, self.running, self.outside = name, array.reshape(-1), running, outside
        self.writers: dict[int, tuple[int, ...]] = {}

    def _place(self, i: Any, does: str) -> int:
        if not isinstance(i, (int, np.integer)):
            raise Wrong(f"{self.name}[{i}]: an index is an integer, and this is a float.")
        if not 0 <= i < self.array.size:
            block, thread = self.running
            raise Wrong(
                f"Thread {thread} of block {block} {does} {self.name}[{i}], but {self.name} has {self.array.size} elements.\n"
                f"On a GPU nothing would stop it: it would read or spoil something else. {self.outside}".rstrip()
            )
        return int(i)

    def __getitem__(self, i: Any) -> Any:
        return self.array[self._place(i, "reads")]

    def __setitem__(self, i: Any, value: Any) -> None:
        i = self._place(i, "writes")
        block, thread = self.running
        first = self.writers.setdefault(i, (block, thread))
        if first != (block, thread):
            raise Wrong(
                f"{self.name}[{i}] is written by thread {first[1]} of block {first[0]}, and again by thread {thread} of block {block}.\n"
                "Likely cause: i is not the number of the thread among all: blockIdx.x * blockDim.x + threadIdx.x."
            )
        self.array[i] = value


# What a kernel may call


def _divide(a: Any, b: Any) -> Any:
    """C's division: of two integers rounded towards 0."""
    if isinstance(a, (int, np.integer)) and isinstance(b, (int, np.integer)):
        if b == 0:
            raise Wrong("Your kernel divides by 0.")
        return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
    return np.float32(a) / np.float32(b)


def _rest(a: Any, b: Any) -> Any:
    if not all(isinstance(n, (int, np.integer)) for n in (a, b)):
        raise Wrong("The C compiler would say: `%` is for integers.")
    return a - _divide(a, b) * b


def _whole(value: Any) -> int:
    if not np.isfinite(value):
        raise Wrong(f"Your kernel makes an integer of {value:g}; what that gives, C does not say.")
    return int(value)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("max", "fmaxf", "fmax"), np.fmax),  # of NaN and a number they give the number
    **dict.fromkeys(("min", "fminf", "fmin"), np.fmin),
    **{"abs": abs, "fabsf": abs, "isnan": np.isnan, "sqrtf": np.sqrt, "expf": np.exp},
}


class _Translation:
    """One kernel as a Python function.

    parameters: the names in its head. function: takes these and blockIdx, blockDim, threadIdx, gridDim, tuples of three.
    """

    def __init__(self, source: str, name: str) -> None:
        text = re.sub(r"//[^\n]*|/\*.*?\*/|^\s*#[^\n]*", " ", source, flags=re.S | re.M)  # comments, #define
        head = re.search(r"__global__\s+void\s+" + name + r"\s*\(([^)]*)\)\s*\{", text)
        if head is None:
            raise Wrong(f'There is no `extern "C" __global__ void {name}(...) {{` in the source.')
        declared = head[1].split(",")
        self.parameters = [re.findall(r"\w+", parameter)[-1] for parameter in declared]
        self.constant = {p for p, whole in zip(self.parameters, declared, strict=True) if "const" in whole and "*" in whole}
        self.tokens = self._tokens(text[head.end() :])
        self.at, self.depth = 0, 1
        self.lines: list[str] = []
        self.types = dict.fromkeys([*self.parameters, *_PLACES], "")  # of each variable: what makes a value of its type
        while not self.take("}"):
            self.statement()
        if self.look():
            raise Wrong(f"After the closing brace of the kernel there is still {self.look()!r}: is there one `}}` too many?")
        head_line = f"def kernel({', '.join(map(_python, [*self.parameters, *_PLACES]))}):"
        names: dict[str, Any] = {**_FUNCTIONS, "_divide": _divide, "_rest": _rest, "_whole": _whole, "_real": np.float32}
        names["_turn"], self.turns = self.turn, 0
        exec("\n".join([head_line, "    pass", *self.lines]), names)
        self.function: Callable[..., None] = names["kernel"]

    def turn(self) -> None:
        """A loop of the kernel goes round once more."""
        self.turns += 1
        if self.turns > _TURNS:
            raise Wrong(f"The loops of your kernel have gone round {_TURNS:,} times: is there one without end?")

    # Words: (kind, text)

    @staticmethod
    def _tokens(text: str) -> list[tuple[str, str]]:
        found, at = [], 0
        while text[at:].strip():
            token = _TOKEN.match(text, at)
            if token is None:
                raise Wrong(f"The C compiler would not understand this: {text[at:].strip()[:20]!r}")
            found.append((str(token.lastgroup), token[str(token.lastgroup)]))
            at = token.end()
        return found

    def look(self, ahead: int = 0) -> str:
        return self.tokens[self.at + ahead][1] if self.at + ahead < len(self.tokens) else ""

    def kind(self) -> str:
        return self.tokens[self.at][0] if self.at < len(self.tokens) else ""

    def take(self, *texts: str) -> str:
        """The next word, if it is one of these; otherwise nothing is taken."""
        if not self.look() or self.look() not in texts:
            return ""
        self.at += 1
        return self.tokens[self.at - 1][1]

    def need(self, text: str) -> None:
        if not self.take(text):
            before = " ".join(token for _, token in self.tokens[max(0, self.at - 4) : self.at])
            instead = f", not `{self.look()}`." if self.look() else "."
            raise Wrong(f"The C compiler would say: expected `{text}` after `{before}`{instead}")

    def put(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    # Statements: they write lines of Python

    def statement(self) -> None:
        if not self.look():
            raise Wrong("The C compiler would say: the source ends before its last `}`.")
        if self.take(";"):
            return
        if self.take("{"):
            while not self.take("}"):
                self.statement()
        elif self.take("if"):
            self.put(f"if {self.condition()}:")
            self.block()
            if self.take("else"):
                self.put("else:")
                self.block()
        elif self.take("while"):
            self.put(f"while {self.condition()}:")
            self.block("_turn()")
        elif self.take("for"):
            self.loop()
        elif self.take("return"):
            self.need(";")
            self.put("return")
        else:
            self.simple()
            self.need(";")

    def block(self, first: str = "pass") -> None:
        self.depth += 1
        self.put(first)
        self.statement()
        self.depth -= 1

    def condition(self) -> str:
        """An expression in brackets."""
        self.need("(")
        found = self.expression()
        self.need(")")
        return found

    def loop(self) -> None:
        """for (first; test; step) is first, and while test with step at its end."""
        self.need("(")
        if self.look() != ";":
            self.simple()
        self.need(";")
        test = "True" if self.look() == ";" else self.expression()
        self.need(";")
        kept, self.lines = self.lines, []
        if self.look() != ")":
            self.simple()
        step, self.lines = [line.strip() for line in self.lines], kept
        self.need(")")
        self.put(f"while {test}:")
        self.block("_turn()")
        self.depth += 1
        for line in step:
            self.put(line)
        self.depth -= 1

    def simple(self) -> None:
        """A declaration, an assignment, i++."""
        if self.look() in _TYPES:
            self.declaration()
            return
        if sign := self.take("++", "--"):
            self.put(f"{self.target()[0]} {sign[0]}= 1")
            return
        target, kind = self.target()
        if sign := self.take("++", "--"):
            self.put(f"{target} {sign[0]}= 1")
        elif sign := self.take(*_ASSIGNMENTS):
            value = self.expression()
            if sign in ("/=", "%="):
                value = f"{'_divide' if sign == '/=' else '_rest'}({target}, {value})"
            elif sign != "=":
                value = f"{target} {sign[0]} ({value})"
            self.put(f"{target} = {_cast(kind, value)}")
        else:
            raise Wrong(f"The check does not understand this statement: `{target} {self.look()} ...`. Is there an `=` missing?")

    def declaration(self) -> None:
        kind = self.type()
        while True:
            name = self.name()
            self.types[name] = kind
            if self.take("="):
                self.put(f"{_python(name)} = {_cast(kind, self.expression())}")
            if not self.take(","):
                return

    def type(self) -> str:
        """What makes a value of the type in Python; "" where it may be any."""
        words = set()
        while self.look() in _TYPES:
            words.add(self.take(*_TYPES))
        if self.take("*", "&"):
            raise Wrong("The check knows no pointers other than the parameters: write y[i].")
        return "_real" if words & _REAL else "" if words <= {"auto", "const"} else "bool" if "bool" in words else "_whole"

    def name(self) -> str:
        if self.kind() != "name":
            raise Wrong(f"The C compiler would say: expected a name before `{self.look()}`.")
        self.at += 1
        return self.tokens[self.at - 1][1]

    def target(self) -> tuple[str, str]:
        """What is assigned to, and its type."""
        name = self.name()
        if name not in self.types:
            raise Wrong(
                f"The C compiler would say: `{name}` is undefined. A new variable is introduced with its type, as in `float sum = ...`."
            )
        if not self.take("["):
            return _python(name), self.types[name]
        if name in self.constant:
            raise Wrong(f"The C compiler would say: `{name}` is const, it can only be read.")
        found = f"{_python(name)}[{self.expression()}]"
        self.need("]")
        return found, ""

    # Expressions: they give Python

    def expression(self) -> str:
        test = self.binary(1)
        if not self.take("?"):
            return test
        yes = self.expression()
        self.need(":")
        return f"({yes} if {test} else {self.expression()})"

    def binary(self, level: int) -> str:
        """Operators that bind at least as closely as `level`."""
        left = self.unary()
        while _BINDS.get(self.look(), 0) >= level:
            sign = self.take(self.look())
            right = self.binary(_BINDS[sign] + 1)
            call = {"/": "_divide", "%": "_rest"}.get(sign)
            left = f"{call}({left}, {right})" if call else f"({left} {_WORDS.get(sign, sign)} {right})"
        return left

    def unary(self) -> str:
        if self.take("!", "not"):
            return f"(not {self.unary()})"
        if sign := self.take("-", "+"):
            return f"({sign}{self.unary()})"
        if self.look() == "(" and self.look(1) in _TYPES:
            self.need("(")
            kind = self.type()
            self.need(")")
            return _cast(kind, self.unary())
        if self.look() == "(":
            return f"({self.condition()})"
        if self.kind() == "number":
            text = self.take(self.look())
            digits = text.rstrip("fFuUlL")
            return f"_real({digits})" if text[-1] in "fF" else digits
        if self.look() in _TYPES:  # float(x)
            return _cast(self.type(), self.condition())
        return self.value(self.name())

    def value(self, name: str) -> str:
        """What begins with a name: a call, blockIdx.x, an element, a variable."""
        if self.look() == "(" and name in _FUNCTIONS:
            self.need("(")
            arguments = [self.expression()]
            while self.take(","):
                arguments.append(self.expression())
            self.need(")")
            return f"{name}({', '.join(arguments)})"
        if name in _PLACES:
            self.need(".")
            axis = self.name()
            if axis not in ("x", "y", "z"):
                raise Wrong(f"The C compiler would say: `{name}` has no `{axis}`; it has .x, .y and .z.")
            return f"{name}[{'xyz'.find(axis)}]"
        if name not in self.types:
            raise Wrong(f"The C compiler would say: `{name}` is undefined.")
        if not self.take("["):
            return _python(name)
        index = self.expression()
        self.need("]")
        return f"{_python(name)}[{index}]"


def _cast(kind: str, value: str) -> str:
    return f"{kind}({value})" if kind else value


def _python(name: str) -> str:
    """A variable of the kernel's, as Python may call it: `in` is a name in C."""
    return f"{name}_" if keyword.iskeyword(name) else name
