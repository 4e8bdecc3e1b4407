"""The settings of the suite (tests/conftest.py), and stricter ones, for the scripts of this
folder. Imported before anything of jax's."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_cpu_parallel_codegen_split_count=1 --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true --xla_cpu_use_fusion_emitters=false",
)

import jax

jax.config.update("jax_num_cpu_devices", 2)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
# without its own lines, an error of JAX's below a line of ours would look like one of ours
jax.config.update("jax_traceback_filtering", "off")
