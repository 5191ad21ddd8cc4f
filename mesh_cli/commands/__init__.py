"""The commands, one module each. A module imports heavy things inside the command, so that the others start fast."""
