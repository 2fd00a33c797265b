"""③ Features to a semantic prior and refined features: the contribution of the paper."""

from semask.semantic.attention import SemanticAttention
from semask.semantic.layer import SemanticLayer

__all__ = ["SemanticAttention", "SemanticLayer"]
