"""What is read from a program: of a text as the TPU's compiler writes it, and of a jaxpr."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from experiments.benchmarks.estimates import CYCLES, ENDLESS, estimate, products


def operation(name, opcode="fusion", cycles=None, rest="", shape="f32[8,8]{1,0:T(8,128)S(1)}"):
    config = f'"window_config":{{"estimated_cycles":"{cycles}","iteration_bounds":["1"]}}'
    tail = "" if cycles is None else f', backend_config={{"flag_configs":[],{config}}}'
    return f'  %{name} = {shape} {opcode}(%x.1, %y.2){rest}, metadata={{op_name="a/b"}}{tail}'


PAIR = "(s32[]{:T(128)}, bf16[7,8]{1,0:T(8,128)(2,1)S(1)}, /*index=5*/s32[]{:T(128)})"


TEXT = f"""
HloModule jit_encode, is_scheduled=true, entry_computation_layout={{(f32[8])->f32[8]}}

%fused_computation.1 (param_0: f32[8,8]) -> f32[8,8] {{
{operation("inside_of_a_fusion_nothing_counts", "add", 7)}
}}

%body.3 (wide.arg: (s32[], f32[8,8])) -> (s32[], f32[8,8]) {{
{operation("turn.1", cycles=100, rest=", kind=kLoop, calls=%fused_computation.1")}
{operation("sort.2", "sort", rest=", dimensions={1}, to_apply=%less.9")}
  ROOT %tuple.4 = {PAIR} tuple(%add.15, %turn.1)
}}

%condition.4 (wide.arg: (s32[], f32[8,8])) -> pred[] {{
  %constant.53 = s32[]{{:T(128)}} constant(7)
  ROOT %lt.6 = pred[]{{:T(512)}} compare(%gte.1, %constant.53), direction=LT
}}

%until.5 (wide.arg: (s32[], f32[8,8])) -> pred[] {{
  ROOT %lt.2 = pred[]{{:T(512)}} compare(%gte.1, %gte.2), direction=LT
}}

%less.9 (a: f32[], b: f32[]) -> pred[] {{
{operation("less", "compare", 10_000_000)}
}}

%cheap.6 (arg: (f32[8])) -> (f32[8]) {{
{operation("a.1", cycles=1000)}
}}

%dear.7 (arg: (f32[8])) -> (f32[8]) {{
{operation("b.1", cycles=2000)}
{operation("gather_fusion.12", rest=", kind=kCustom, calls=%fused_computation.1")}
{operation("custom-call.1", "custom-call", rest=', custom_call_target="AllocateBuffer"')}
}}

ENTRY %main.16 (flat_args_0_.1: f32[8,8]) -> f32[8,8] {{
  %flat_args_0_.1 = f32[8,8]{{1,0:T(8,128)}} parameter(0), sharding={{replicated}}
"""


def text(*entry):
    """A program: `entry` is what it runs; before it stand computations that may be called."""
    return TEXT + "\n".join([*entry, "}"])


def loop(condition, config=""):
    rest = f", condition=%{condition}, body=%body.3{config}"
    return operation("while.6", "while", rest=rest, shape=PAIR)


def choice(branches):
    return operation("cond.3.clone", "conditional", rest=f", {branches}")


COUNTED = ', backend_config={"known_trip_count":{"n":"3"}}'
ONE = operation("fusion.1", cycles=5, rest=", kind=kOutput, calls=%fused_computation.1")
TWO = [ONE, operation("copy.2", "copy", 6), f"  ROOT %tuple.7 = {PAIR} tuple(%copy.2)"]
FIRST = "true_computation=%dear.7, false_computation=%cheap.6"
MIDDLE = "branch_computations={%cheap.6, %dear.7, %cheap.6}"


@pytest.mark.parametrize(
    ("entry", "cycles", "endless", "missing"),
    [
        ([ONE], 5, 0, {}),
        (TWO, 11, 0, {}),
        ([loop("condition.4")], 700, 0, {"sort": 7}),
        ([loop("until.5", COUNTED)], 300, 0, {"sort": 3}),
        ([loop("until.5")], 100, 1, {"sort": 1}),
        ([choice(MIDDLE)], 2000, 0, {"gather_fusion": 1}),
        ([choice(FIRST)], 2000, 0, {"gather_fusion": 1}),
        ([operation("call.1", "call", rest=", to_apply=%cheap.6")], 1000, 0, {}),
        ([operation("async.1", "async-start", rest=", calls=%cheap.6")], 1000, 0, {}),
    ],
)
def test_an_estimate_counts_all_that_runs_and_nothing_else(entry, cycles, endless, missing):
    cost = estimate(text(*entry))
    assert (cost.pop(CYCLES), cost.pop(ENDLESS, 0), cost) == (cycles, endless, missing)


def test_a_program_without_an_entry_is_refused():
    with pytest.raises(ValueError, match="ENTRY"):
        estimate(text().replace("ENTRY ", ""))


def test_products_count_as_often_as_they_are_made():
    def fn(x, w, i, n):
        turns, _ = lax.scan(lambda c, a: (c + a @ w, None), jnp.zeros((4, 8)), x)
        branch = lax.switch(i, [lambda y: y, lambda y: y @ w @ w, jnp.sin], turns)
        return lax.while_loop(
            lambda c: c[0] < n, lambda c: (c[0] + 1, jax.jit(jnp.dot)(c[1], w)), (0, branch)
        )

    shapes = ((7, 4, 8), jnp.float32), ((8, 8), jnp.float32), ((), jnp.int32), ((), jnp.int32)
    jaxpr = jax.make_jaxpr(fn)(*(jax.ShapeDtypeStruct(*shape) for shape in shapes))
    assert products(jaxpr) == (7 + 2 + 1) * 2 * 4 * 8 * 8


def test_a_convolution_and_its_gradients_make_the_same_products():
    images, kernel = jnp.zeros((2, 16, 16, 4)), jnp.zeros((3, 3, 4, 8))

    def conv(x, k):
        numbers = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, k, (2, 2), ((1, 1), (1, 1)), dimension_numbers=numbers)

    forward = products(jax.make_jaxpr(conv)(images, kernel))
    assert forward == 2 * (2 * 8 * 8) * (3 * 3 * 4 * 8)
    gradients = jax.make_jaxpr(lambda x, k, g: jax.vjp(conv, x, k)[1](g))
    assert products(gradients(images, kernel, jnp.zeros((2, 8, 8, 8)))) == 3 * forward
