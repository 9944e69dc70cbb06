"""From LLVM's assembly language to machine code in this process."""

from __future__ import annotations

from typing import Any


def compile_module(text: str, **words: object) -> Any | None:
    """The compiled module, which must live as long as anybody holds addresses into it; ``None`` without llvmlite.

    Parameters
    ----------
    text, words : the module without its target, and what to put into its braces.
    """
    try:
        import llvmlite.binding as llvm
    except ImportError:
        return None
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2)
    module = llvm.parse_assembly(f'target triple = "{llvm.get_default_triple()}"\n' + text.format(**words))
    module.verify()
    compiled = llvm.create_mcjit_compiler(module, machine)
    compiled.finalize_object()
    return compiled
