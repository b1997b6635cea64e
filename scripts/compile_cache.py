"""Compiled programs are kept on disk: the second start of the same settings compiles nothing."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

MAX_BYTES = 4 * 2**30  # the least recently used programs go first
# XLA compiles for the compiler's own time, and each program as one piece. Read when JAX first uses its backend.
COMPILE_FAST = (
    "--xla_cpu_use_fusion_emitters=false"
    " --xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE"
    " --xla_cpu_parallel_codegen_split_count=1"
)


def cache_folder() -> Path:
    """Where onelife keeps what it can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onelife"


def use_compile_cache() -> None:
    """Before the first compilation. `JAX_COMPILATION_CACHE_DIR` names another place; empty, it turns this off."""
    import jax

    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    place = cache_folder() / _processor()
    with contextlib.suppress(OSError):  # a home that cannot be written costs no more than the time to compile
        place.mkdir(parents=True, exist_ok=True)
        jax.config.update("jax_compilation_cache_dir", str(place))
        jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


@contextlib.contextmanager
def compiled_for(scale: str) -> Iterator[None]:
    """At `smoke` compiling is nearly all of the work: XLA leaves out what makes programs fast and compiling slow."""
    import jax

    use_compile_cache()
    before, flags = jax.config.values["jax_disable_most_optimizations"], os.environ.get("XLA_FLAGS", "")
    jax.config.update("jax_disable_most_optimizations", scale == "smoke")
    if scale == "smoke":
        os.environ["XLA_FLAGS"] = f"{flags} {COMPILE_FAST}"
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)
        os.environ["XLA_FLAGS"] = flags


def _processor() -> str:
    """Names the kind of processor: machines that share a home may not be able to run each other's programs."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next((line for line in lines if line.startswith("flags")), "")
        return hashlib.sha256(features.encode()).hexdigest()[:12]
    return "any"
