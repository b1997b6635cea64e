"""Batched dm_env environments and their pure JAX forms."""
