"""What workflows call: one verb a function, one model in, one model out."""
