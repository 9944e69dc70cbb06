"""A virtual machine's configuration file, read and written without losing a byte.

::

    #!/usr/bin/vmware                   a comment
    .encoding = "UTF-8"                 how the bytes of this file are to be read
    displayName = "web |22one|22"       key = "value"; |22 is the byte 22h, a quotation mark
    memsize = "256"                     numbers and truth values are in quotes as well
                                        blank lines, unknown keys, their order: all of it stays

``Vmx`` is the file as lines; what they mean is in ``vmx_settings``. Letter case of keys does not count, but stays.

Sources: files that ESX has written, in public repositories; libvirt's reader (escapes, encodings); GSX Server's
Administration Guide (values without quotes).
MODEL: a file with two lines for one key is refused; which of them VMware's products believe is not documented.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from vilab.errors import AdminError, VmmBug

ENCODINGS = (
    "UTF-8", "US-ASCII", "ISO-8859-1", "windows-1250", "windows-1251", "windows-1252", "windows-1253", "windows-1254",
    "windows-1255", "windows-1256", "windows-1257", "windows-1258", "Shift_JIS", "EUC-JP", "GBK", "GB18030", "Big5",
    "EUC-KR",
)  # fmt: skip
"""In all of them the syntax characters are their ASCII bytes."""

_ENCODING_LINE = re.compile(
    rb'^(?:\xef\xbb\xbf)?[ \t]*\.encoding[ \t]*=[ \t]*"?([^"\s]+)', re.IGNORECASE | re.MULTILINE
)
_KEY = re.compile(r"[A-Za-z0-9_.:/-]+")
_LINE = re.compile(
    r'\ufeff?[ \t]*(?P<key>[A-Za-z0-9_.:/-]+)[ \t]*=[ \t]*(?:"(?P<quoted>[^"]*)"|(?P<bare>[^\s"#]+))[ \t]*(?:#.*)?\r?'
)
_IGNORED = re.compile(r"\ufeff?[ \t]*(?:#.*)?\r?")
_ESCAPES = re.compile(r"(?:\|[0-9A-Fa-f]{2})+")
_STRAY_PIPE = re.compile(r"\|(?![0-9A-Fa-f]{2})")
_TO_ESCAPE = re.compile(r'[\x00-\x1f\x7f"|]')


class VmxLine(msgspec.Struct):
    """One line: its text as in the file, line end included, and what it says (no key: a comment or a blank)."""

    text: str
    key: str | None = None
    value: str = ""


class Vmx(msgspec.Struct):
    """A configuration file. ``name`` is what error sentences call it."""

    name: str
    encoding: str = "UTF-8"
    lines: list[VmxLine] = []

    def get(self, key: str, default: str | None = None) -> str | None:
        line = self._line(key)
        return default if line is None else line.value

    def keys(self) -> list[str]:
        return [line.key for line in self.lines if line.key is not None]

    def set(self, key: str, value: str) -> None:
        """Change a line in its place, or add one at the end. A line that says so already keeps its form."""
        self._must_be_free(key)
        if not _KEY.fullmatch(key):
            raise AdminError(f"{self.name}: {key!r} cannot be a key: letters, digits and . _ : / - make one.")
        line = self._line(key)
        if line is not None and line.value == value:
            return
        end = "\r\n" if self.lines and self.lines[0].text.endswith("\r\n") else "\n"
        text = f'{key} = "{_escape(value)}"{end}' if line is None else _with_value(line.text, _escape(value))
        if text.encode(self.encoding, "replace").decode(self.encoding) != text:
            raise AdminError(
                f"{self.name}: the value of {key}, {value!r}, has characters that the file's encoding, "
                f"{self.encoding}, does not have."
            )
        if line is not None:
            line.text, line.value = text, value
            return
        if self.lines and not self.lines[-1].text.endswith("\n"):
            self.lines[-1].text += end
        self.lines.append(VmxLine(text, key, value))

    def remove(self, key: str) -> None:
        """Take a key's line out, if there is one."""
        self._must_be_free(key)
        line = self._line(key)
        if line is not None:
            self.lines.remove(line)

    def where(self, key: str) -> str:
        """File and line, for a sentence about what is wrong there."""
        line = self._line(key)
        return self.name if line is None else f"{self.name}, line {self.lines.index(line) + 1}"

    def _line(self, key: str) -> VmxLine | None:
        folded = key.lower()
        return next((line for line in self.lines if line.key is not None and line.key.lower() == folded), None)

    def _must_be_free(self, key: str) -> None:
        if key.lower() == ".encoding":
            raise AdminError(f"{self.name}: the encoding of a file that exists stays; make a new one with new_vmx().")


def new_vmx(name: str, encoding: str = "UTF-8") -> Vmx:
    """A file with the three lines that every product writes first."""
    lines = f'.encoding = "{encoding}"\nconfig.version = "8"\nvirtualHW.version = "4"\n'
    return parse(lines.encode("ascii"), name)


def parse(data: bytes, name: str = "vmx") -> Vmx:
    """Read a file's bytes. ``write(parse(data)) == data``; anything else is refused with the line's number."""
    encoding = _encoding_of(data, name)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise AdminError(f"{name}, line {number}: not {encoding}, which this file is said to be in.") from error
    if text.encode(encoding) != data:
        raise AdminError(f"{name}: its {encoding} is not the usual one and could not be written back as it was.")
    vmx = Vmx(name, encoding)
    seen: dict[str, int] = {}
    for number, body in enumerate(re.findall(r"[^\n]*\n|[^\n]+", text), 1):
        line = _parse_line(body, number, vmx)
        if line.key is not None and (first := seen.setdefault(line.key.lower(), number)) != number:
            raise AdminError(
                f"{name}, line {number}: {line.key} has been set in line {first} already; keep one of them."
            )
        vmx.lines.append(line)
    return vmx


def write(vmx: Vmx) -> bytes:
    return "".join(line.text for line in vmx.lines).encode(vmx.encoding)


def load(path: Path) -> Vmx:
    try:
        return parse(path.read_bytes(), path.name)
    except OSError as error:
        raise AdminError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # a zero byte
        raise AdminError(f"{str(path)!r} cannot be read: {error}.") from error


def save(vmx: Vmx, path: Path) -> None:
    """Write beside, then put in place: whatever happens, the old file or the new one is there, whole."""
    beside = path.with_name(path.name + "~")
    try:
        with beside.open("wb") as file:
            file.write(write(vmx))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise AdminError(f"{path} cannot be written: {error.strerror}. It is as it was.") from error


def _encoding_of(data: bytes, name: str) -> str:
    found = _ENCODING_LINE.search(data)
    if found is None:
        return "UTF-8"
    said = found[1].decode("latin-1")
    for encoding in ENCODINGS:
        if encoding.lower() == said.lower():
            return encoding
    raise AdminError(f"{name}: .encoding is {said!r}, which is not known here: {', '.join(ENCODINGS)} are.")


def _parse_line(text: str, number: int, vmx: Vmx) -> VmxLine:
    body = text.removesuffix("\n")
    if _IGNORED.fullmatch(body):
        return VmxLine(text)
    found = _LINE.fullmatch(body)
    if found is None:
        raise AdminError(f'{vmx.name}, line {number}: expected key = "value", got {body.strip()[:60]!r}.')
    raw = found["bare"] if found["quoted"] is None else found["quoted"]
    if stray := _STRAY_PIPE.search(raw):
        raise AdminError(
            f"{vmx.name}, line {number}: {raw[stray.start() : stray.start() + 3]!r} is no escape: after | come two "
            f"hexadecimal digits (| itself is |7C)."
        )
    try:
        value = _ESCAPES.sub(lambda m: bytes.fromhex(m[0].replace("|", "")).decode(vmx.encoding), raw)
    except UnicodeDecodeError as error:
        raise AdminError(f"{vmx.name}, line {number}: the escapes in {raw[:60]!r} are not {vmx.encoding}.") from error
    return VmxLine(text, found["key"], value)


def _with_value(text: str, escaped: str) -> str:
    """A line with another value; blanks, a comment behind it and the line's end stay."""
    found = _LINE.fullmatch(text.removesuffix("\n"))
    if found is None:
        raise VmmBug(f"The line {text!r} of a configuration file was accepted and now does not read as one.")
    start, end = found.span("bare") if found["quoted"] is None else (found.start("quoted") - 1, found.end("quoted") + 1)
    return f'{text[:start]}"{escaped}"{text[end:]}'


def _escape(value: str) -> str:
    return _TO_ESCAPE.sub(lambda m: f"|{ord(m[0]):02X}", value)


def truth(vmx: Vmx, key: str) -> bool:
    """TRUE or FALSE; where the key is missing, FALSE."""
    said = (vmx.get(key) or "FALSE").lower()
    if said not in ("true", "false", "1", "0", "yes", "no"):
        raise unfit(vmx, key, "TRUE or FALSE")
    return said in ("true", "1", "yes")


def unfit(vmx: Vmx, key: str, fit: str) -> AdminError:
    """For a value that cannot be."""
    return AdminError(f"{vmx.where(key)}: {key} is {vmx.get(key)!r}; it has to be {fit}.")
