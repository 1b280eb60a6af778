"""The HTTP side: taking in what leads do, in the words of the Segment spec."""
