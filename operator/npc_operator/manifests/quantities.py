"""Kubernetes quantities as whole bytes, for programs that take plain numbers."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

_UNITS = {
    "": Decimal(1),
    "k": Decimal(10) ** 3,
    "M": Decimal(10) ** 6,
    "G": Decimal(10) ** 9,
    "T": Decimal(10) ** 12,
    "Ki": Decimal(2) ** 10,
    "Mi": Decimal(2) ** 20,
    "Gi": Decimal(2) ** 30,
    "Ti": Decimal(2) ** 40,
}


def quantity_bytes(text: str) -> int:
    """Whole bytes of a size such as `10Gi` (as the schema allows it), rounded up."""
    digits = text.rstrip("KMGTki")
    return int((Decimal(digits) * _UNITS[text[len(digits) :]]).to_integral_value(rounding=ROUND_CEILING))
