"""The operations behind the operators and methods of Tensor, one family a file."""
