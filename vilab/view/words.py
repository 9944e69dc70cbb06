"""How numbers and sentences are written, once for the picture, the panels and the text twin.

A sentence for a person is written with two marks, both optional::

    At ring 1, `pushf` runs on the bare CPU: **no trap**.
               ------- code                  ----------- the word that carries the answer

``plain`` takes the marks away (what ``describe()`` returns and a screen reader hears), ``html`` turns them into
elements. Everything else in the sentence is text and is escaped.
"""

from __future__ import annotations

import html as _html
import re

NBSP = "\u00a0"
_CODE = re.compile(r"`([^`]*)`")
_BOLD = re.compile(r"\*\*([^*]+)\*\*")


def plain(sentence: str) -> str:
    """The sentence without marks and without no-break spaces."""
    return _BOLD.sub(r"\1", _CODE.sub(r"\1", sentence)).replace(NBSP, " ")


def html(sentence: str) -> str:
    """The sentence as HTML; whatever it quotes is escaped."""
    parts = _CODE.split(sentence)
    return "".join(
        f"<code>{_html.escape(part)}</code>" if index % 2 else _BOLD.sub(r"<b>\1</b>", _html.escape(part))
        for index, part in enumerate(parts)
    )


def escape(text: str) -> str:
    return _html.escape(text)


def hex8(value: int | None) -> str:
    """``c0104f25``: eight digits, lower case, no ``0x``; an en dash for what there is not."""
    return "–" if value is None else f"{value:08x}"


def hex4(value: int) -> str:
    return f"{value:04x}"


def spaced(code: bytes, most: int = 4) -> str:
    """``8b 44 24 08``; more than ``most`` bytes end in an ellipsis."""
    return code.hex(" ") if len(code) <= most else code[:most].hex(" ") + "…"


def grouped(number: int) -> str:
    """``2,030``"""
    return f"{number:,}"


def duration(ns: int) -> str:
    """Virtual time with one decimal in the unit that suits it: ``4.1 µs``, ``201.0 ms``, ``2.5 s``."""
    for limit, unit, scale in ((1_000_000, "µs", 1e3), (1_000_000_000, "ms", 1e6)):
        if ns < limit:
            return f"{ns / scale:.1f}{NBSP}{unit}"
    return f"{ns / 1e9:.1f}{NBSP}s"


def instruction(mnemonic: str, operands: str) -> str:
    """``mov ebx,cr3``: as tight as the pictures need it."""
    tight = operands.replace(", ", ",")
    for wide in ("dword ptr ", "word ptr ", "byte ptr ", "qword ptr ", "fword ptr "):
        tight = tight.replace(wide, "")
    tight = tight.replace(" + ", "+").replace(" - ", "-").replace("*1]", "]")
    tight = re.sub(r"0x([0-9a-f]{5,8})\b", lambda match: f"{int(match[1], 16):08x}", tight)
    return f"{short_name(mnemonic)} {tight}".rstrip()


def short_name(mnemonic: str) -> str:
    """capstone writes ``pushfd`` where the manuals of the time and the lessons write ``pushf``."""
    return {"pushfd": "pushf", "popfd": "popf", "iretd": "iret", "retf": "ret far", "lcall": "call far",
            "ljmp": "jmp far", "pushal": "pusha", "popal": "popa"}.get(mnemonic, mnemonic)  # fmt: skip


def counted(number: int, noun: str) -> str:
    """``1 fragment``, ``3 fragments``"""
    return f"{grouped(number)} {noun}" + ("" if number == 1 else "s")
