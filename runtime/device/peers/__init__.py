"""Workers that run other engines on the same weights, one process each, for the benchmark.

``protocol`` states what a worker reads and writes; ``llama_cpp``, ``ort_genai`` and
``hf_transformers`` are the workers. Nothing here is imported by the rest of the runtime, and the
engines are imported only when a worker starts.
"""
