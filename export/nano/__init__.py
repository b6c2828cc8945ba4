"""The built-in model: EfficientNet-Lite0, a closed-form connector, SmolLM2-135M-Instruct."""
