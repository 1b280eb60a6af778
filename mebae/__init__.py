"""Mebae (芽生え): a lead-nurturing engine. The engine is this package; scenarios, workflows and activities stand beside it."""

__version__ = "0.1.0"
