"""Lesson 2: counting uses, the topological order, and the walk back in this order."""

from lessons.checking import Mutant, Wrong, is_a, same


def _tangled(lesson):
    """The example of the lesson: from the end, `a` is near, but it must wait for `b`."""
    x = lesson.Scalar(2.0)
    a = x * 3
    b = a + 1
    c = b * 2
    end = a * c
    return {"x": x, "a": a, "b": b, "c": c, "end": end}


def _doubled(lesson, times):
    x = end = lesson.Scalar(1.0)
    for _ in range(times):
        end = end + end
    return x, end


def _chain(lesson, length):
    x = end = lesson.Scalar(1.0)
    for _ in range(length):
        end = end + 0.5
    return x, end


def _without_recursion(what, call):
    try:
        return call()
    except RecursionError:
        raise Wrong(
            f"{what}: the function calls itself for each input, and Python gives up after about 1,000 calls.\n"
            "Use a list of your own and a loop: `while todo: node = todo.pop() ...`."
        ) from None


def check_counts(lesson):
    """count_uses: in the tangled example a is used twice"""
    nodes = _tangled(lesson)
    uses = lesson.count_uses(nodes["end"])
    is_a("count_uses(end)", uses, dict)
    missing = [name for name, node in nodes.items() if node not in uses]
    if missing:
        raise Wrong(f"count_uses(end): {' and '.join(missing)} not found. Are the inputs of the inputs looked at too?")
    mistakes = {
        "each is counted once, however often it is used.": [1, 1, 1, 1, 0],
        "a Scalar is put onto the list again for every use, so every way is walked: put it there once.": [2, 2, 1, 1, 0],
    }
    got = [uses[nodes[name]] for name in ("x", "a", "b", "c", "end")]
    same("the uses of x, a, b, c, end", got, [1, 2, 1, 1, 0], mistakes=mistakes)


def check_same_input_twice(lesson):
    """count_uses: in a * a, a is used twice"""
    a = lesson.Scalar(3.0)
    mistakes = {"each user is counted once, but a * a uses `a` twice.": 1}
    same("the uses of a in a * a", lesson.count_uses(a * a)[a], 2, mistakes=mistakes)


def check_looks_once(lesson):
    """count_uses: looks at each Scalar once"""
    x, end = _doubled(lesson, 10)
    uses = lesson.count_uses(end)
    mistakes = {"a Scalar is put onto the list again for every use, so every way is walked: put it there once.": 2**10}
    same("the uses of x in x doubled 10 times", uses[x], 2, mistakes=mistakes)
    same("the number of Scalars behind x doubled 10 times", len(uses), 11)


def check_count_deep(lesson):
    """count_uses: a chain 10,000 deep, and x doubled 60 times"""
    _, end = _chain(lesson, 10_000)
    uses = _without_recursion("count_uses of a chain 10,000 deep", lambda: lesson.count_uses(end))
    same("the number of Scalars in a chain of 10,000 additions", len(uses), 20_001)
    same("the number of Scalars behind x doubled 60 times", len(lesson.count_uses(_doubled(lesson, 60)[1])), 61)


def check_order(lesson):
    """order: each after all those who use it"""
    nodes = _tangled(lesson)
    found = lesson.order(nodes["end"])
    _is_order(found, nodes)
    same("the length of order(end): five with a name and the numbers 3, 1 and 2", len(found), 8)


def _is_order(found, nodes):
    is_a("order(end)", found, (list, tuple))
    names = {node: name for name, node in nodes.items()}
    shown = ", ".join(names.get(node, f"{node.value:g}") for node in found)
    for name, node in nodes.items():
        times = sum(other is node for other in found)
        if times == 0:
            raise Wrong(f"order(end): {shown}\n{name} is missing. Is everyone who has become ready put on the list?")
        if times > 1:
            raise Wrong(f"order(end): {shown}\n{name} comes {times} times. It is ready once: when nobody is left to wait for.")
    if found[0] is not nodes["end"]:
        raise Wrong(f"order(end): {shown}\nThe result must come first; nobody uses it. Is the order the wrong way round?")
    turn = {node: i for i, node in enumerate(found)}
    for node in found:
        for source in node.inputs:
            if turn[source] < turn[node]:
                source_name, user = (names.get(n, f"{n.value:g}") for n in (source, node))
                raise Wrong(
                    f"order(end): {shown}\n{source_name} comes before {user}, which uses it, so something arrives after it has passed on.\n"
                    "Likely cause: it does not wait until its last use is counted down to 0."
                )


def check_order_other_way(lesson):
    """order: also when the inputs stand the other way round"""
    x = lesson.Scalar(2.0)
    a = x * 3
    b = a + 1
    c = b * 2
    end = c * a
    _is_order(lesson.order(end), {"x": x, "a": a, "b": b, "c": c, "end": end})


def check_order_deep(lesson):
    """order: a chain 10,000 deep, and x doubled 60 times"""
    _, end = _chain(lesson, 10_000)
    found = _without_recursion("order of a chain 10,000 deep", lambda: lesson.order(end))
    same("the length of the order of a chain of 10,000 additions", len(found), 20_001)
    same("the length of the order of x doubled 60 times", len(lesson.order(_doubled(lesson, 60)[1])), 61)


def check_backward(lesson):
    """backward: the tangled example"""
    nodes = _tangled(lesson)
    lesson.backward(nodes["end"])
    got = [nodes[name].grad for name in ("x", "a", "b", "c", "end")]
    mistakes = {
        "the end has no slope of its own: put result.grad to 1 before the walk.": [0.0] * 5,
        "what arrives second replaces what came first; add to `grad`.": [36.0, 12.0, 12.0, 6.0, 1.0],
        "the walk goes through the order backwards: everyone passes on before anything has arrived.": [0, 14, 0, 6, 1],
    }
    same("the grad of x, a, b, c, end", got, [78.0, 26.0, 12.0, 6.0, 1.0], mistakes=mistakes)


def check_backward_shared(lesson):
    """backward: x doubled 60 times has slope 2^60"""
    x, end = _doubled(lesson, 60)
    lesson.backward(end)
    same("the slope of x doubled 60 times", x.grad, 2.0**60, mistakes={"the second way replaces the first; add to `grad`.": 1.0})


def check_backward_deep(lesson):
    """backward: a chain 10,000 deep"""
    x, end = _chain(lesson, 10_000)
    _without_recursion("backward of a chain 10,000 deep", lambda: lesson.backward(end))
    same("the slope of a chain of 10,000 additions", x.grad, 1.0)


def check_backward_again(lesson):
    """backward: a second time gives the same"""
    nodes = _tangled(lesson)
    lesson.backward(nodes["end"])
    lesson.backward(nodes["end"])
    same("x.grad after backward(end) twice", nodes["x"].grad, 78.0)


HINTS = {
    "count_uses": (
        "A loop that takes one from the list, looks at its inputs, and counts each. An input seen for the first time goes onto the "
        "list, so that its own inputs are counted as well.",
        "uses[s] = the number of times that s stands among the inputs of someone behind the result. The list holds each one once.",
        "    while todo:\n"
        "        node = todo.pop()\n"
        "        for source in node.inputs:\n"
        "            if source not in uses:\n"
        "                uses[source] = 0\n"
        "                ...\n"
        "            uses[source] += ...",
    ),
    "order": (
        "One who is ready goes into the order, and all inputs wait for one use less. Who waits for nothing any more is ready.",
        "waiting[s] begins as the number of uses; each user that goes into the order takes 1 off; at 0, s is ready.",
        "    while ready:\n"
        "        node = ready.pop()\n"
        "        found.append(node)\n"
        "        for source in node.inputs:\n"
        "            waiting[source] -= 1\n"
        "            if ...:\n"
        "                ready.append(source)",
    ),
    "backward": (
        "The order makes sure that all has arrived when it is a Scalar's turn. So each one only has to give to its inputs.",
        "result.grad = 1; then, in order, for each input: its grad grows by grad of the user * the local slope.",
        "    result.grad = ...\n"
        "    for node in nodes:\n"
        "        for source, local in zip(node.inputs, node.slopes):\n"
        "            source.grad += ...",
    ),
}

COUNT = """\
            if source not in uses:
                uses[source] = 0
                todo.append(source)
            uses[source] += 1
"""
READY = """\
            waiting[source] -= 1
            if waiting[source] == 0:
                ready.append(source)
"""
ORDER = """\
    while ready:
        node = ready.pop()
        found.append(node)
        for source in node.inputs:
            waiting[source] -= 1
            if waiting[source] == 0:
                ready.append(source)
"""

PASS_ON = """\
    for node in nodes:
        for source, local in zip(node.inputs, node.slopes):
            source.grad += node.grad * local
"""

MUTANTS = [
    Mutant(
        "only the nearest",
        COUNT,
        COUNT.replace("                todo.append(source)\n", ""),
        "Are the inputs of the inputs looked at",
    ),
    Mutant(
        "counted once",
        COUNT,
        COUNT.replace("            uses[source] += 1", "                uses[source] = 1"),
        "however often it is used",
    ),
    Mutant(
        "each user once",
        "        for source in node.inputs:\n" + COUNT,
        "        for source in set(node.inputs):\n" + COUNT,
        "a \\* a uses `a` twice",
    ),
    Mutant(
        "on the list again and again",
        COUNT,
        """\
            uses.setdefault(source, 0)
            todo.append(source)
            uses[source] += 1
""",
        "every way is walked",
    ),
    Mutant(
        "near ones first",
        READY,
        """\
            if source not in found and source not in ready:
                ready.insert(0, source)
""",
        "does not wait until its last use",
    ),
    Mutant(
        "ready at every use",
        READY,
        """\
            ready.append(source)
""",
        "comes . times",
    ),
    Mutant("the beginning first", "    return found\n", "    return found[::-1]\n", "The result must come first"),
    Mutant("never ready", "if waiting[source] == 0:", "if waiting[source] < 0:", "is missing. Is everyone who has become ready"),
    Mutant(
        "calls itself",
        ORDER,
        """\

    def visit(node):
        if node not in found:
            for source in node.inputs:
                visit(source)
            found.append(node)

    visit(result)
    found.reverse()
""",
        "calls itself for each input",
    ),
    Mutant("the end without slope", "    result.grad = 1.0\n", "", "put result.grad to 1"),
    Mutant("assigned", "source.grad += node.grad * local", "source.grad = node.grad * local", "replaces what came first"),
    Mutant("the wrong way round", PASS_ON, PASS_ON.replace("in nodes", "in reversed(nodes)"), "goes through the order backwards"),
]
