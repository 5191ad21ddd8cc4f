"""The smallest model that ships: three kinds of iris told apart by four lengths."""
