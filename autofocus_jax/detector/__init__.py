"""The detector: JAX and Flax only, every function pure and of fixed shapes."""
