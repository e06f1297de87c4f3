"""Shapes and types in signatures are checked while tests run."""

from jaxtyping import install_import_hook

install_import_hook("leanvit", "type_checks.checked")
