"""What an agent is: types, networks, returns, losses, meta-parameters. Pure functions of arrays."""
