"""The operations of networks, one family a file: what each means, what it refuses, and its derivative."""
