"""Forty-two cases in which recurrent layers of other libraries are wrong or surprising:
where each is tested here.

A case is either held by a test (named by its claim, here or elsewhere), or does not apply, for the
reason given.
"""

import ast
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import checkify
from oracles import assert_close, inputs, parameters
from places import TESTS

import jaxrnn
from jaxrnn.cells import GRUCarry, LSTMCarry, LSTMPCell
from jaxrnn.sequences import check_lengths

STEP_BY_STEP = "test_unroll.py::test_a_sequence_equals_the_equations_step_by_step"
HELD = {
    "E1 length 0": (
        "test_modules.py::test_a_sequence_of_length_zero_keeps_its_state_and_puts_out_zeros"
    ),
    "E2 reversed runs agree for every method": (
        "test_fused.py::test_values_and_gradients_are_those_of_the_scan"
    ),
    "E3 a mask of a convolutional cell": STEP_BY_STEP,
    "E4 two batch axes with lengths": (
        "test_modules.py::test_recurrent_takes_several_batch_axes_with_time_before_the_features"
    ),
    "E5 lengths beyond T": (
        "test_pitfalls.py::"
        "test_traced_lengths_beyond_the_sequence_are_cut_and_can_be_checked_at_run_time"
    ),
    "E6 lengths that are floats or misshapen": (
        "test_modules.py::test_a_wrong_argument_is_told_what_was_expected"
    ),
    "E7 no step at all": "test_unroll.py::test_an_empty_sequence_keeps_its_carry",
    "E8 NaN in padding": (
        "test_unroll.py::test_gradients_at_padding_are_exactly_zero_whatever_stands_there"
    ),
    "E9 mixed precision": "test_modules.py::test_bfloat16_computation_keeps_the_state_in_float32",
    "E10 64-bit inputs, 32-bit parameters": (
        "test_unroll.py::test_inputs_set_the_dtype_not_parameters"
    ),
    "E11 integer inputs": "test_unroll.py::test_a_mistake_is_told_with_what_was_expected",
    "E12 h and c swapped": (
        "test_pitfalls.py::test_a_swapped_state_is_refused_where_its_shapes_tell"
    ),
    "E13 two kinds of dropout": (
        "test_wrappers.py::"
        "test_every_rate_is_the_share_of_what_is_drawn_and_every_mask_has_its_axes"
    ),
    "E14 dropout without randomness": (
        "test_nnx.py::test_training_without_randomness_is_an_error_that_says_so"
    ),
    "E15 dropout over windows": (
        "test_windows.py::test_windows_equal_the_manual_version_values_and_gradients"
    ),
    "E16 zoneout at evaluation": (
        "test_wrappers.py::test_zoneout_at_evaluation_is_the_expectation_of_a_step"
    ),
    "E17 zoneout of h and of c": STEP_BY_STEP,
    "E18 layer norm keeps c as it is": STEP_BY_STEP,
    "E19 the output gate's peephole sees the new c": STEP_BY_STEP,
    "E20 both directions with lengths": (
        "test_stack.py::test_a_stack_equals_its_layers_one_after_another"
    ),
    "E21 both directions with resets": (
        "test_packing.py::test_packed_sequences_give_the_outputs_and_gradients_of_separate_ones"
    ),
    "E22 padding on the left": "test_pitfalls.py::test_padding_on_the_left_is_a_mask_not_a_length",
    "E23 outputs at padding": STEP_BY_STEP,
    "E24 reversed outputs": (
        "test_stack.py::test_a_reversed_bidirectional_stack_swaps_the_directions_of_time"
    ),
    "E25 the last output": (
        "test_outputs.py::test_the_last_output_equals_the_final_state_of_each_direction"
    ),
    "E26 strides and padding of a ConvLSTM": (
        "test_long_memory.py::test_convolutional_states_take_the_space_that_is_left"
    ),
    "E27 closures of jit": (
        "test_modules.py::test_a_module_without_dropout_works_in_closures_of_plain_transformations"
    ),
    "E28 a stack of one cell": (
        "test_pitfalls.py::test_a_stack_of_one_layer_has_a_tuple_of_one_carry"
    ),
    "E29 a state of another batch": (
        "test_pitfalls.py::test_a_state_of_another_batch_size_is_refused_and_told"
    ),
    "E30 what a reset returns to": (
        "test_unroll.py::test_a_reset_goes_to_the_initial_carry_never_to_the_given_one"
    ),
    "E31 when a reset takes effect": (
        "test_packing.py::test_packed_rows_and_single_steps_agree_on_where_a_sequence_begins"
    ),
    "E33 a new T compiles anew": "test_packing.py::test_a_bucket_is_compiled_once",
    "E34 unbatched or not": "test_modules.py::test_an_unbatched_sequence_is_a_batch_of_one",
    "E32 limits of cuDNN": "test_cudnn.py::test_what_cudnn_does_not_compute_is_refused",
    "E35 batch_first and the state": (
        "test_modules.py::test_batch_first_only_swaps_the_axes_of_what_has_a_time_axis"
    ),
    "E36 one bias or two": "interop/test_torch_weights.py::test_written_biases_are_ours_and_zero",
    "E37 GRU conventions": "test_cells.py::test_parameters_of_another_cell_are_refused",
    "E40 weak types": "test_pitfalls.py::test_the_kind_of_number_in_a_state_changes_no_result",
    "E41 one key for all layers": (
        "test_stack.py::test_each_cell_draws_parameters_of_its_own_for_its_own_input_size"
    ),
    "E42 initialisation of fused kernels": (
        "test_initializers.py::test_each_recurrent_gate_is_orthogonal_for_itself"
    ),
}
NOT_HERE = {
    "E38": (
        "an unroll factor that does not divide T: there is no such option, "
        "and no loop is ever written out"
    ),
    "E39": (
        "the parameters of scan's jaxpr: they are not read; "
        "`running.trace` reads names, operands and results of a step's equations"
    ),
}


def test_every_case_is_held_by_a_test_that_exists_or_has_a_reason():
    numbers = [name.split()[0] for name in (*HELD, *NOT_HERE)]
    assert sorted(numbers, key=lambda n: int(n[1:])) == [f"E{k}" for k in range(1, 43)]
    for place in HELD.values():
        file, name = place.split("::")
        assert name in {
            node.name
            for node in ast.walk(ast.parse(next(TESTS.rglob(file)).read_text()))
            if isinstance(node, ast.FunctionDef)
        }


def test_traced_lengths_beyond_the_sequence_are_cut_and_can_be_checked_at_run_time():
    cell = jaxrnn.GRUCell(4)
    p, xs = parameters(cell), jnp.asarray(inputs(cell, 5, (3,)), jnp.float32)

    def run(lengths):
        check_lengths(lengths, T=5)
        return jaxrnn.unroll(cell, p, xs, mask=jaxrnn.lengths_to_mask(lengths, T=5))[0].h

    cut, wanted = jax.jit(run)(jnp.array([9, 2, -1])), run(np.array([5, 2, 0]))
    assert_close(cut, wanted, 1e-6)
    checked = checkify.checkify(jax.jit(run), errors=checkify.user_checks)
    assert checked(jnp.array([5, 2, 0]))[0].get() is None
    assert (
        "lengths must lie between 0 and T=5, got [ 9  2 -1]"
        in checked(jnp.array([9, 2, -1]))[0].get()
    )
    # and all transformations
    jax.grad(lambda w: jax.vmap(lambda n: run(n).sum() * w)(jnp.array([[1, 2, 3]])).sum())(1.0)


def test_a_swapped_state_is_refused_where_its_shapes_tell():
    cell = LSTMPCell(4, 2)
    p, xs = parameters(cell), inputs(cell, 5, (3,))
    h, c = np.zeros((3, 2)), np.zeros((3, 4))
    with pytest.raises(
        ValueError, match=r"carry\.h has shape \(3, 4\), expected \(3, 2\).* Are h and c swapped\?"
    ):
        jaxrnn.unroll(cell, p, xs, LSTMCarry(h=c, c=h))
    with pytest.raises(
        ValueError, match=r"expected .*LSTMCarry.* Make it by name: LSTMCarry\(h=\.\.\., c=\.\.\.\)"
    ):
        jaxrnn.unroll(cell, p, xs, (h, c))


def test_padding_on_the_left_is_a_mask_not_a_length():
    cell = jaxrnn.LSTMCell(4)
    p, xs = parameters(cell), inputs(cell, 5)
    left = np.concatenate([np.full((3, 3), np.nan), xs])
    carry, ys = jaxrnn.unroll(cell, p, left, mask=np.arange(8) >= 3)
    assert_close((carry, ys[3:]), jaxrnn.unroll(cell, p, xs), 1e-5)
    assert not ys[:3].any()


def test_a_stack_of_one_layer_has_a_tuple_of_one_carry():
    one, two = (jaxrnn.Stack([jaxrnn.LSTMCell(3)] * n) for n in (1, 2))
    carry, more = (
        jaxrnn.unroll(stack, parameters(stack), inputs(stack, 4))[0] for stack in (one, two)
    )
    assert jax.tree.structure(carry) == jax.tree.structure(more[:1])


def test_a_state_of_another_batch_size_is_refused_and_told():
    cell = jaxrnn.GRUCell(4)
    p, xs = parameters(cell), inputs(cell, 5, (3,))
    carry, _ = jaxrnn.unroll(cell, p, xs)
    with pytest.raises(
        ValueError, match=r"carry\.h has shape \(3, 4\), expected \(2, 4\) for these inputs"
    ):
        jaxrnn.unroll(cell, p, xs[:, :2], carry)


def test_a_weak_type_in_a_state_changes_no_compiled_program():
    cell = jaxrnn.LSTMCell(2)
    p, xs = parameters(cell), np.asarray(inputs(cell, 5, (3,)), np.float32)
    weak, strong = jnp.broadcast_to(0.5, (3, 2)), jnp.full((3, 2), 0.5, jnp.float32)
    assert weak.weak_type and not strong.weak_type
    slopes = jax.jit(
        jax.grad(lambda p, h, c: jaxrnn.unroll(cell, p, xs, LSTMCarry(h=h, c=c))[1].sum())
    )
    texts = [slopes.lower(p, h, h).compile().as_text() for h in (weak, strong)]
    programs = [
        [re.sub(r", metadata=\{[^}]*\}", "", line) for line in text.splitlines() if " = " in line]
        for text in texts
    ]
    assert programs[0] == programs[1] and len(programs[0]) > 50


def test_the_kind_of_number_in_a_state_changes_no_result():
    cell = jaxrnn.LSTMCell(2)
    p, xs = parameters(cell), np.asarray(inputs(cell, 5, (3,)), np.float32)
    kinds = [
        np.full((3, 2), 0.5),
        np.full((3, 2), 0.5, np.float32),
        jnp.full((3, 2), 0.5),
        jnp.full((3, 2), 0.5, jnp.bfloat16),
    ]
    runs = [jaxrnn.unroll(cell, p, xs, LSTMCarry(h=a, c=a)) for a in kinds]
    for run in runs:
        assert run[0].h.dtype == run[1].dtype == jnp.float32 and not run[0].c.weak_type
        assert_close(run, runs[0], 0)
    one = jaxrnn.GRUCell(1)
    p, xs = parameters(one), np.asarray(inputs(one, 5), np.float32)
    scalars = [np.array([0.5]), [np.float64(0.5)], jnp.asarray([0.5])]
    for h in scalars:
        assert_close(
            jaxrnn.unroll(one, p, xs, GRUCarry(h=jnp.asarray(h))),
            jaxrnn.unroll(one, p, xs, GRUCarry(scalars[0])),
            0,
        )
