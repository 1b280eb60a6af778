"""What the `mebae` command runs: the whole house on one machine, and the demo in it."""
