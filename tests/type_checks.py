"""The run-time check of signatures: an int serves where a float is wanted, as in typing."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
