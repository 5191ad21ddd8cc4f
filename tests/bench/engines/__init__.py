"""What the two engines take from the CPU, against the raw libraries and other servers."""
