"""Rounding: as coarse as the coarsest step on the way, by whatever name the precision is known."""

import jax
import pytest
from ml_dtypes import finfo

from posjax.runtime import local_devices
from posjax.runtime.precision import matmul_precision, rounding_step


@pytest.mark.parametrize(
    ("name", "in_force"),
    [
        *[(None, "default"), ("default", "default"), ("bfloat16", "default")],
        *[("high", "high"), ("tensorfloat32", "high")],
        *[("highest", "highest"), ("float32", "highest")],
        ("BF16_BF16_F32", "BF16_BF16_F32"),
    ],
)
def test_the_precision_in_force_has_one_name(name, in_force):
    with jax.default_matmul_precision(name):
        assert matmul_precision() == in_force


@pytest.mark.parametrize(
    ("dtype", "platform", "precision", "bits"),
    [
        *[("float32", "cpu", name, 23) for name in ("default", "high", "highest")],
        ("float32", "tpu", "default", 7),
        ("float32", "tpu", "BF16_BF16_F32", 7),
        ("float32", "tpu", "highest", 23),
        *[("float32", "gpu", name, 10) for name in ("default", "high")],
        ("float32", "gpu", "highest", 23),
        *[("bfloat16", name, "highest", 7) for name in ("cpu", "gpu", "tpu")],
    ],
)
def test_the_coarsest_arithmetic_counts(dtype, platform, precision, bits):
    assert rounding_step(dtype, platform, precision) == 2.0**-bits
    assert rounding_step(dtype, "cpu", "default") == finfo(dtype).eps


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (jax.debug_nans(True), "jax_debug_nans=True.*expected False: unset JAX_DEBUG_NANS"),
        (jax.numpy_rank_promotion("raise"), "jax_numpy_rank_promotion=raise.*expected allow"),
        (jax.transfer_guard("disallow"), "jax_transfer_guard.*=disallow.*expected allow"),
    ],
)
def test_what_lets_no_run_get_to_its_end_is_refused_before_it_begins(setting, said):
    local_devices()
    with setting, pytest.raises(ValueError, match=said):
        local_devices()
