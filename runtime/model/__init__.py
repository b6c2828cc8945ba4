"""From pixels and a question to text: preprocessing, prompt, KV cache, decoding."""
