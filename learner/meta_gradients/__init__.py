"""Ways to differentiate through the window: the reverse adjoint sweep, the forward trace, and copies of the life."""
