"""Everything that touches an environment: environments, the recorder, and the two actor runtimes."""
