"""Speed, measured: `python -m benchmarks.alexnet_step`. Nothing here is imported by minidl."""
