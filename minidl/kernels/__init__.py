"""Arrays in, arrays out: how the heavy operations are computed. Nothing here knows of Tensors or of the graph."""
