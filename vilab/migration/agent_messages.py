"""Messages as MessagePack, and no others than those that are known.

::

    messages = Pages | Stunned | ...        each a msgspec.Struct with a tag of its own
        send:    Pages(...)  ──> {"type": "Pages", ...}
        receive: {"type": "Pages", ...} ──> Pages(...)       another type, another field, a wrong value: FrameError
"""

from __future__ import annotations

from typing import Any, get_args

import msgspec
from msgspec import inspect

from vilab.errors import VmmBug
from vilab.migration.agent_frames import MAX_MESSAGE_BYTES, FrameError
from vilab.protocols import ReadableBytes


class MessageCodec:
    """``messages``: a tagged ``msgspec.Struct``, or a union of them."""

    def __init__(self, messages: Any) -> None:
        self._types: tuple[type, ...] = get_args(messages) or (messages,)
        for kind in self._types:
            if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)) or kind.__struct_config__.tag is None:
                raise VmmBug(f"{kind!r} is no message: it has to be a msgspec.Struct with a tag.")
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(messages)
        self._strict = all(_refuses_unknown_fields(kind) for kind in self._types)

    def encode(self, message: msgspec.Struct) -> bytes:
        """Raises ``VmmBug`` for what the other side could not know."""
        if type(message) not in self._types:
            raise VmmBug(f"{type(message).__name__} is not one of the messages of this session.")
        packed = self._encoder.encode(message)
        if len(packed) > MAX_MESSAGE_BYTES:
            raise VmmBug(f"A {type(message).__name__} of {len(packed)} bytes does not fit: what is long is a body.")
        return packed

    def decode(self, packed: ReadableBytes) -> Any:
        """Raises ``FrameError``."""
        try:
            message = self._decoder.decode(packed)
            if not self._strict:
                extra = _more(msgspec.msgpack.decode(packed), msgspec.to_builtins(message, builtin_types=(bytes,)))
                if extra:
                    raise FrameError(f"sends a {type(message).__name__} with an unknown field, {extra}")
        except FrameError:
            raise
        except Exception as error:  # somebody else's bytes; a record may refuse its values with any error of its own
            raise FrameError(f"sends a message that is not known here ({str(error).rstrip('.')})") from None
        return message


def _refuses_unknown_fields(kind: Any) -> bool:
    """It, and every record inside of it."""
    waiting, seen = [inspect.type_info(kind)], set()
    while waiting:
        info = waiting.pop()
        if isinstance(info, inspect.StructType):
            if not info.cls.__struct_config__.forbid_unknown_fields:
                return False
            if info.cls in seen:
                continue
            seen.add(info.cls)
            waiting += [field.type for field in info.fields]
        elif isinstance(info, (inspect.DataclassType, inspect.TypedDictType)):
            return False
        else:
            for part in msgspec.structs.asdict(info).values():
                waiting += [p for p in (part if isinstance(part, tuple) else (part,)) if isinstance(p, inspect.Type)]
    return True


def _more(sent: Any, known: Any) -> str:
    """The first field that was sent and is not known, quoted; empty if there is none."""
    if isinstance(sent, dict) and isinstance(known, dict):
        for key in sent:
            if key not in known:
                return repr(key)
            if extra := _more(sent[key], known[key]):
                return extra
    elif isinstance(sent, list) and isinstance(known, (list, tuple)):
        if len(sent) > len(known):
            return f"number {len(known) + 1}"
        for one, other in zip(sent, known, strict=False):
            if extra := _more(one, other):
                return extra
    return ""
