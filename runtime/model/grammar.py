"""Answers that follow a JSON Schema, by llguidance: what may come next, and what must."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgevlm.errors import ConfigError, ContractError, SchemaError
from edgevlm.runtime.model.field_scores import Choice, field_scores
from edgevlm.tensors import Float32

# One way to write each value, and the shortest.
COMPACT = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
FEW = 256  # legal tokens whose probabilities are all kept


class GrammarCompiler:
    """Makes grammars for one tokenizer.

    Args:
        tokenizer: content of ``tokenizer.json``.
        vocabulary: rows of logits.
        stop_ids: end tokens, the one that is written first.

    Raises:
        ConfigError: llguidance is not installed.
        ContractError: it cannot use this tokenizer.
    """

    def __init__(self, tokenizer: str, vocabulary: int, stop_ids: Sequence[int]) -> None:
        try:
            import llguidance
        except ImportError as exc:
            raise ConfigError(
                "an answer by schema needs llguidance: pip install 'edgevlm[grammar]'"
            ) from exc
        self._llguidance: Any = llguidance
        self._stop_id = stop_ids[0]
        try:
            self._words: Any = llguidance.LLTokenizer(
                tokenizer, n_vocab=vocabulary, eos_token=list(stop_ids)
            )
        except Exception as exc:  # its exception types are not public
            raise ContractError(f"no schema with this model's tokenizer: {exc}") from exc
        self._compiled: dict[str, Any] = {}

    def guide(self, schema: Mapping[str, Any], confidence: float = 1.0) -> Guide:
        """What guides one answer.

        Args:
            schema: that it follows.
            confidence: temperature of the scores of its fields.

        Raises:
            SchemaError: the schema is none, has a keyword that cannot be kept, describes nothing
                or something besides objects.
        """
        try:
            key = json.dumps(schema)
        except (TypeError, ValueError) as exc:
            raise SchemaError(f"the schema is no JSON: {exc}") from exc
        if key not in self._compiled:
            self._compiled[key] = self._compile(key)
        return Guide(self._compiled[key].deep_copy(), self._words, self._stop_id, confidence)

    def _compile(self, schema: str) -> Any:
        matcher = self._llguidance.LLMatcher
        try:
            grammar = matcher.grammar_from_json_schema(schema, overrides=COMPACT)
            failed, messages = matcher.validate_grammar_with_warnings(grammar, self._words)
        except ValueError as exc:
            failed, messages = True, [str(exc)]
        if failed or messages:
            said = " ".join(" ".join(messages).split())
            raise SchemaError(f"the schema cannot be used: {said}")
        made = matcher(self._words, grammar, log_level=0)
        if not bytes(made.compute_ff_bytes()).startswith(b"{"):
            raise SchemaError('the schema must be of an object: give it "type": "object"')
        return made


class Guide:
    """Follows one answer through its grammar.

    Args:
        matcher: at the beginning of the grammar.
        words: llguidance's tokenizer.
        stop_id: token that ends a complete answer.
        confidence: temperature of the scores of fields.
    """

    def __init__(self, matcher: Any, words: Any, stop_id: int, confidence: float = 1.0) -> None:
        self._confidence = confidence
        self._matcher = matcher
        self._words = words
        self._stop_id = stop_id
        self._text = b""
        self._choices: list[Choice] = []
        self.complete = False

    def begin(self) -> list[int]:
        """The tokens that every answer begins with."""
        return self._forced()

    def narrow(self, scores: Float32) -> Float32:
        """The scores with every token that is not legal here at minus infinity."""
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        legal = np.unpackbits(bits, count=len(scores), bitorder="little").view(bool)
        narrowed = np.where(legal, scores, np.float32(-np.inf))
        if not np.isfinite(narrowed.max()):  # the checkpoint's own rules forbid all that is left
            narrowed = np.where(legal, np.float32(0), np.float32(-np.inf))
        return narrowed

    def take(self, token: int, scores: Float32) -> list[int]:
        """Go on with a token that was chosen among ``scores``; returns what must follow it."""
        legal = np.flatnonzero(np.isfinite(scores))
        if len(legal) > FEW:
            legal = np.array([token])
            weights = np.array([1.0])
            behind = scores.astype(np.float64) - float(scores[token])
            weights /= np.exp(behind / self._confidence).sum()
        else:
            behind = scores[legal].astype(np.float64) - float(scores[legal].max())
            weights = np.exp(behind / self._confidence)
            weights /= weights.sum()
        pieces = [bytes(self._words.decode_bytes([int(t)])) for t in legal]
        start = len(self._text)
        self._consume([token])
        chances = tuple(zip(pieces, weights.tolist(), strict=True))
        self._choices.append(Choice(start, len(self._text), chances))
        return self._forced()

    def answer(self) -> dict[str, Any] | None:
        """The object, of a complete answer."""
        if not self.complete:
            return None
        found = json.loads(self._text)
        return dict(found)

    def scores(self) -> dict[str, float]:
        """How probable each value was among those legal in its place, by JSON pointer."""
        return field_scores(self._text.decode("utf-8"), self._choices) if self.complete else {}

    def _forced(self) -> list[int]:
        forced = [] if self._matcher.is_stopped() else list(self._matcher.compute_ff_tokens())
        if forced:
            self._consume(forced)
        if self._matcher.is_stopped() and not self.complete:
            self.complete = True
            if not forced or forced[-1] != self._stop_id:
                forced = [*forced, self._stop_id]
        return forced

    def _consume(self, tokens: list[int]) -> None:
        if not self._matcher.consume_tokens(tokens):
            raise ContractError(f"the grammar cannot be followed: {self._matcher.get_error()}")
        self._text += bytes(self._words.decode_bytes([t for t in tokens if t != self._stop_id]))
