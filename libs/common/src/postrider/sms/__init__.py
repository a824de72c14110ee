"""What a text says and how many parts it takes. No I/O, except that render_pool.py runs a worker process."""
