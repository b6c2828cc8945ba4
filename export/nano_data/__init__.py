"""Pictures with exact labels, composed on demand from cut-out photographs; nothing is stored."""
