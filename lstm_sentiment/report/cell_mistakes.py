"""Which mistake explains what an LSTM cell computes, with parameters of any name and order.

Which parameters belong to which gate, and whether they act on [h, x] or [x, h], is learnt from the
values: of the 24 orders and two ways to concatenate, the right one gives those of nn.LSTMCell. If
none does, the same is tried with the equations changed by one known mistake, or two.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

B, D, H = 4, 3, 5  # texts, inputs, hidden: all different, so that shapes tell what is what
TOLERANCE = 1e-5  # of values and gradients around 1, in single precision
GATES = {"f": "forget gate", "i": "input gate", "g": "candidate", "o": "output gate"}
# The equations, in parts that a mistake replaces.
RIGHT: dict[str, Callable] = {
    "f": torch.sigmoid,
    "i": torch.sigmoid,
    "g": torch.tanh,
    "o": torch.sigmoid,
    "gates": lambda f, i, g, o: (f, i, g, o),
    "c'": lambda f, i, g, h, c: f * c + i * g,
    "squash": torch.tanh,
    "h'": lambda o, new, c, squash: o * squash(new),
    "returned": lambda h, new, c: (h, new),
}
Mistake = tuple[str, str, Callable]
MISTAKES: list[Mistake] = [
    *((f"the {GATES[gate]} has tanh instead of sigmoid", gate, torch.tanh) for gate in "fio"),
    ("the candidate has sigmoid instead of tanh", "g", torch.sigmoid),
    *((f"the {GATES[gate]} has no activation", gate, lambda a: a) for gate in "figo"),
    *((f"the {GATES[gate]} is applied twice", gate, lambda a: a.sigmoid() ** 2) for gate in "fio"),
    *(
        (f"the {GATES[gate]} goes through its activation twice", gate, twice)
        for gate, function in list(RIGHT.items())[:4]
        for twice in [lambda a, function=function: function(function(a))]
    ),
    *((f"the {GATES[gate]} is never applied", gate, torch.ones_like) for gate in "figo"),
    *((f"the {GATES[gate]} is 1 minus itself", gate, lambda a: 1 - a.sigmoid()) for gate in "fio"),
    ("forget gate and candidate are swapped", "gates", lambda f, i, g, o: (g, i, f, o)),
    ("candidate and output gate are swapped", "gates", lambda f, i, g, o: (f, i, o, g)),
    ("the old c is left out of c'", "c'", lambda f, i, g, h, c: i * g),
    ("c' has h where the old c belongs", "c'", lambda f, i, g, h, c: f * h + i * g),
    ("c' has (1 - f) in place of i", "c'", lambda f, i, g, h, c: f * c + (1 - f) * g),
    ("the forget gate acts on all of c'", "c'", lambda f, i, g, h, c: f * (c + i * g)),
    ("c' multiplies where it should add", "c'", lambda f, i, g, h, c: f * c * i * g),
    ("c' adds i and g where it should multiply", "c'", lambda f, i, g, h, c: f * c + i + g),
    ("h' has c' where tanh(c') belongs", "squash", lambda c: c),
    ("h' has sigmoid(c') where tanh(c') belongs", "squash", torch.sigmoid),
    ("h' is made of the old c", "h'", lambda o, new, c, squash: o * squash(c)),
    ("h' is tanh(o * c')", "h'", lambda o, new, c, squash: squash(o * new)),
    ("h' adds o where it should multiply", "h'", lambda o, new, c, squash: o + squash(new)),
    ("h' is returned for c' too", "returned", lambda h, new, c: (h, h)),
    ("c' is returned for h' too", "returned", lambda h, new, c: (new, new)),
    ("c' and h' are returned in each other's place", "returned", lambda h, new, c: (new, h)),
    ("the old c is returned for c'", "returned", lambda h, new, c: (h, c)),
]


def _step(a: Tensor, h: Tensor, c: Tensor, mistakes: tuple[Mistake, ...]) -> tuple[Tensor, Tensor]:
    """From what the activations of N readings get, (N, 4, B, H), to h' and c'."""
    part = RIGHT | {place: function for _, place, function in mistakes}
    f, i, g, o = part["gates"](*(part[gate](a[:, k]) for k, gate in enumerate(GATES)))
    new = part["c'"](f, i, g, h, c)
    return part["returned"](part["h'"](o, new, c, part["squash"]), new, c)


class Part(NamedTuple):
    """A matrix of one gate, and its bias: zeros where there is none, or one without influence."""

    name: str
    weight: Tensor  # (H, H + D), or (H, H) and (H, D) apart
    bias_name: str | None
    bias: Tensor  # (H,)


class Reading(NamedTuple):
    """What the student's parameters are, and what is done with them."""

    order: tuple[int, ...]  # which of the student's is f, i, g, o
    x_first: bool
    mistakes: tuple | None  # those of MISTAKES that explain all values; None if none do
    h_off: float  # from the equations without a mistake
    c_off: float


def judge(tensors: dict[str, Tensor], facts: dict) -> tuple[list[str], str]:
    """What is wrong with the cell that gave this answer, and how its parameters were read."""
    if "failure" in facts:
        return [facts["failure"]], ""
    wrong, unused = facts["wrong"], facts["unused"]
    parameters = {
        name: tensors[f"parameter {name}"].requires_grad_() for name in facts["parameters"]
    }
    gates = _gates(parameters, unused)
    if gates is None:
        shapes = ", ".join(f"{name} {tuple(p.shape)}" for name, p in parameters.items())
        expected = f"four matrices ({H}, {D + H}), or nn.LSTMCell's"
        return [*wrong, f"its parameters are {shapes or 'none'}; expected {expected}"], ""
    weights = torch.stack([torch.cat([part.weight for part in gate], dim=1) for gate in gates])
    biases = torch.stack([sum((part.bias for part in gate), torch.zeros(H)) for gate in gates])
    by_name, is_torch = _order_by_name(gates)
    reading = _read(tensors, weights.detach(), biases.detach(), by_name)
    if reading.mistakes is None:
        off = f"h' is off by {reading.h_off:.2g}, c' by {reading.c_off:.2g}, at best"
        wrong.append(f"no known mistake explains it: {off}")
    wrong += [text for text, _, _ in reading.mistakes or ()]

    names, swapped, without_bias = [], [], []
    for (gate, role), k in zip(GATES.items(), reading.order, strict=True):
        one_of_many = sum(part[0].name == gates[k][0].name for part in gates) > 1
        own = gates[k][0].name.removesuffix(".weight") + (f"[{k}]" if one_of_many else "")
        names.append(f"{role} {own}")
        if by_name and by_name[k] != gate:
            swapped.append(f"{own} acts as {role}")
        bias_names = [part.bias_name for part in gates[k] if part.bias_name]
        if gates[k][0].name not in unused:  # or the whole gate is, which is another mistake
            wrong += [f"the bias {name} is never added" for name in bias_names if name in unused]
            without_bias += [] if bias_names else [role]
    if without_bias:
        wrong.append(f"no bias in the {', '.join(without_bias)}")
    if swapped and reading.mistakes is not None:
        by = "places in nn.LSTMCell" if is_torch else "names"
        wrong.append(f"gates are swapped, by their {by}: {', '.join(swapped)}")
    if reading.mistakes == ():
        used = {name: p for name, p in parameters.items() if name not in unused}
        wrong += _wrong_gradients(tensors, used, weights, biases, reading)
    wrong = [*dict.fromkeys(wrong)]  # a bias that all gates share is named once
    verdict = "read as" if wrong else "right: values, states and gradients are nn.LSTMCell's, with"
    concatenated = "[x, h]" if reading.x_first else "[h, x]"
    return wrong, f"{verdict} {', '.join(names)}, on {concatenated}"


def _gates(parameters: dict[str, Tensor], unused: list[str]) -> list[list[Part]] | None:
    """Four matrices on h and x together, or four on h and four on x, in the student's order.

    They may be the quarters of larger ones. Their biases are found by name (`so.weight`,
    `so.bias`), otherwise by their order. None if the parameters are others.
    """
    matrices = {name: p for name, p in parameters.items() if p.dim() == 2}
    vectors = {name: p for name, p in parameters.items() if p.dim() == 1}
    if any(len(p) in (D, D + H) for p in matrices.values()):  # as in x @ W
        matrices = {name: p.T for name, p in matrices.items()}
    named = {name: name.replace("weight", "bias") for name in matrices}
    if not {*vectors} & {*named.values()}:
        halved = len(matrices) == 2 * len(vectors)  # h and x have one bias together
        with_bias = [name for name, p in matrices.items() if p.shape[1] == H or not halved]
        named = dict(zip(with_bias, vectors, strict=False))
    parts: dict[int, list[Part]] = {D + H: [], H: [], D: []}
    for name, p in matrices.items():
        bias_name = named.get(name) if named.get(name) in vectors else None
        bias = vectors[bias_name] if bias_name and bias_name not in unused else p.new_zeros(len(p))
        if p.shape[1] not in parts or len(p) % H or bias.shape != p.shape[:1]:
            return None
        for weight, own in zip(p.split(H), bias.split(H), strict=True):
            parts[p.shape[1]].append(Part(name, weight, bias_name, own))
    both, on_h, on_x = parts.values()
    if [len(both), len(on_h), len(on_x)] == [0, 4, 4]:
        return [[*pair] for pair in zip(on_h, on_x, strict=True)]
    return [[part] for part in both] if len(both) == 4 and not on_h + on_x else None


def _order_by_name(gates: list[list[Part]]) -> tuple[str | None, bool]:
    """The gates that the student's names say, such as "figo", if they do; whether these are
    nn.LSTMCell's names, which say it by their order."""
    names = [gate[0].name.rpartition(".weight")[0] or gate[0].name for gate in gates]
    lasts = [name.lower().rpartition(".")[2] for name in names]
    if all(re.match("weight_hh", last) for last in lasts):
        return "ifgo", True
    words = {"forget": "f", "input": "i", "cand": "g", "cell": "g", "update": "g", "output": "o"}
    order = ""
    for last in lasts:
        said = {gate for word, gate in words.items() if word in last}
        said = said or {*re.findall(r"(?:^|_|w|u)[xhi]?([figoc])(?=$|_|\d)", last)}
        order += said.pop().replace("c", "g") if len(said) == 1 else ""
    return (order if sorted(order) == sorted(GATES) else None), False


def _read(
    tensors: dict[str, Tensor], weights: Tensor, biases: Tensor, by_name: str | None
) -> Reading:
    """Of all readings the one that explains h' and c' with the fewest mistakes, at most two.

    Where several do, such as i and g both with sigmoid, it is the one closest to the names.
    """
    x, h, c, *new = (tensors[key] for key in ("x", "h", "c", "h'", "c'"))
    orders = [*itertools.permutations(range(4))]
    if by_name:
        orders.sort(key=lambda order: sum(by_name[order[k]] != g for k, g in enumerate(GATES)))
    inputs = torch.stack([torch.cat([h, x], dim=1), torch.cat([x, h], dim=1)])
    products = inputs[:, None] @ weights.mT + biases[:, None]  # (2, 4, B, H)
    a = products[:, orders].transpose(0, 1).flatten(0, 1)  # (48, 4, B, H)

    def off(mistakes: tuple[Mistake, ...]) -> Tensor:
        """(2, 48) how far h' and c' are off."""
        values = zip(_step(a, h, c, mistakes), new, strict=True)
        differences = [(ours - theirs).abs().amax((-1, -2)) for ours, theirs in values]
        return torch.stack([d.expand(len(a)) for d in differences]).nan_to_num(torch.inf)

    right = off(())
    best, explanation = int(right.sum(0).argmin()), None
    for number in range(3):
        found = []
        for mistakes in itertools.combinations(MISTAKES, number):
            if len({place for _, place, _ in mistakes}) == number:
                fits = (off(mistakes) < TOLERANCE).all(0).nonzero()
                found += [(int(fits[0]), mistakes)] if len(fits) else []
        if found:
            best, explanation = min(found, key=lambda pair: pair[0])
            break
    h_off, c_off = right[:, best].tolist()
    return Reading(orders[best // 2], bool(best % 2), explanation, h_off, c_off)


def _wrong_gradients(
    tensors: dict[str, Tensor],
    parameters: dict[str, Tensor],
    weights: Tensor,
    biases: Tensor,
    reading: Reading,
) -> list[str]:
    """The values are right: is nn.LSTMCell, with these parameters, right about the gradients?"""
    f, i, g, o = reading.order
    sizes, names = [H, D], ["weight_hh", "weight_ih"]
    if reading.x_first:
        sizes, names = sizes[::-1], names[::-1]
    halves = weights[[i, f, g, o]].flatten(0, 1).split(sizes, dim=1)
    own = dict(zip(names, halves, strict=True))
    own |= {"bias_ih": biases[[i, f, g, o]].flatten(), "bias_hh": torch.zeros(4 * H)}
    sources = {letter: tensors[letter].requires_grad_() for letter in "xhc"}
    new = nn.LSTMCell(D, H), own, (sources["x"], (sources["h"], sources["c"]))
    sources |= {f"parameter {name}": p for name, p in parameters.items()}
    loss = loss_of(*torch.func.functional_call(*new))
    gradients = torch.autograd.grad(loss, [*sources.values()])
    found = {key: tensors.get(f"gradient of {key}") for key in sources}
    missing = [key for key, gradient in found.items() if gradient is None]
    differ = [
        f"{key} (by {(theirs - ours).abs().max():.2g})"
        for (key, theirs), ours in zip(found.items(), gradients, strict=True)
        if theirs is not None and not torch.allclose(theirs, ours, atol=10 * TOLERANCE)
    ]
    wrong = [f"no gradient reaches {', '.join(missing)}"] if missing else []
    wrong += [f"wrong gradients of {', '.join(differ)}"] if differ else []
    return [f"the values are right, but {text}" for text in wrong]


def loss_of(h: Tensor, c: Tensor) -> Tensor:
    """A number on which each value of h and c has an influence of its own."""
    weights = torch.linspace(-1, 1, B * H).view(B, H)
    return (weights * h + weights.flip(0) * c).sum()
