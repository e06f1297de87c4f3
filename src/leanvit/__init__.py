"""leanvit: vision transformers on small, imbalanced image sets, compared honestly."""
