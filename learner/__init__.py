"""Everything that changes parameters: the inner update, the window, the meta-gradient, the training loop."""
