"""Ways to differentiate through the window: the reverse adjoint sweep and the forward trace."""
