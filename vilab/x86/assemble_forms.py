"""What the assembler knows: one line a form, in the notation of the manual.

::

    mnemonic     operands          encoding
    add       |  rmv,simm8      |  83 /0 ib

Operands::

    r8 rv r16 r32   a register; v is 16 or 32 bits, the same for all of a form
    rm8 rmv rm16    a register or memory (rmb rmV: also of no size)
    m m8 m16 m48 m64   memory; m of any size
    R16 R32         a register in the rm field          al av cl dx 1      that register, that number
    imm8 imm16 immv a number of that size               simm8              a number that survives sign extension
    rel8 rel32      a place to jump to                  far                selector:offset
    moffs8 moffsv   memory with an address only         sreg cr dr es cs.. system registers

Encoding: hex bytes; ``/r`` or ``/0`` to ``/7`` the modrm byte, ``/rr`` with one register in both fields; ``+r`` adds
the register to the opcode; ``ib iw iv`` immediates, ``j8 j32`` distances, ``ov`` an address, ``fp`` a far pointer.
Forms with a ``v`` get 66 for 16 bits. The first form that fits is taken, so short ones come first.

Source: Intel SDM volume 2, instruction reference; AMD APM volume 3 for SVM.
"""

from __future__ import annotations

import msgspec

CONDITIONS = (
    "o", "no", "b c nae", "ae nb nc", "e z", "ne nz", "be na", "a nbe", "s", "ns", "p pe", "np po", "l nge", "ge nl",
    "le ng", "g nle",
)  # fmt: skip
"""All names of the sixteen conditions, by code."""


class Form(msgspec.Struct, frozen=True):
    """One line of the table: operand patterns and encoding words."""

    operands: tuple[str, ...]
    encoding: tuple[str, ...]

    @property
    def variable(self) -> bool:
        """Does operand size matter?"""
        return any(word.endswith(("v", "V")) or word == "simm8" for word in (*self.operands, *self.encoding))


FORMS = """
mov | al,moffs8 | a0 ov
mov | av,moffsv | a1 ov
mov | moffs8,al | a2 ov
mov | moffsv,av | a3 ov
mov | rm8,r8 | 88 /r
mov | rmv,rv | 89 /r
mov | r8,rm8 | 8a /r
mov | rv,rmv | 8b /r
mov | r8,imm8 | b0 +r ib
mov | rv,immv | b8 +r iv
mov | rm8,imm8 | c6 /0 ib
mov | rmv,immv | c7 /0 iv
mov | m16,sreg | 8c /r
mov | R32,sreg | 8c /r
mov | R16,sreg | 66 8c /r
mov | sreg,rm16 | 8e /r
mov | sreg,R32 | 8e /r
mov | R32,cr | 0f 20 /r
mov | cr,R32 | 0f 22 /r
mov | R32,dr | 0f 21 /r
mov | dr,R32 | 0f 23 /r
test | al,imm8 | a8 ib
test | av,immv | a9 iv
test | rm8,imm8 | f6 /0 ib
test | rmv,immv | f7 /0 iv
test | rm8,r8 | 84 /r
test | rmv,rv | 85 /r
test | r8,rm8 | 84 /r
test | rv,rmv | 85 /r
xchg | av,rv | 90 +r
xchg | rv,av | 90 +r
xchg | rm8,r8 | 86 /r
xchg | rmv,rv | 87 /r
xchg | r8,rm8 | 86 /r
xchg | rv,rmv | 87 /r
lea | rv,m | 8d /r
push | rv | 50 +r
push | simm8 | 6a ib
push | immv | 68 iv
push | rmv | ff /6
push | es | 06
push | cs | 0e
push | ss | 16
push | ds | 1e
push | fs | 0f a0
push | gs | 0f a8
pop | rv | 58 +r
pop | rmv | 8f /0
pop | es | 07
pop | ss | 17
pop | ds | 1f
pop | fs | 0f a1
pop | gs | 0f a9
inc | rv | 40 +r
inc | rm8 | fe /0
inc | rmv | ff /0
dec | rv | 48 +r
dec | rm8 | fe /1
dec | rmv | ff /1
not | rm8 | f6 /2
not | rmv | f7 /2
neg | rm8 | f6 /3
neg | rmv | f7 /3
mul | rm8 | f6 /4
mul | rmv | f7 /4
imul | rm8 | f6 /5
imul | rmv | f7 /5
imul | rv,rmv | 0f af /r
imul | rv,rmv,simm8 | 6b /r ib
imul | rv,rmv,immv | 69 /r iv
imul | rv,simm8 | 6b /rr ib
imul | rv,immv | 69 /rr iv
div | rm8 | f6 /6
div | rmv | f7 /6
idiv | rm8 | f6 /7
idiv | rmv | f7 /7
shld | rmv,rv,imm8 | 0f a4 /r ib
shld | rmv,rv,cl | 0f a5 /r
shrd | rmv,rv,imm8 | 0f ac /r ib
shrd | rmv,rv,cl | 0f ad /r
bsf | rv,rmv | 0f bc /r
bsr | rv,rmv | 0f bd /r
bswap | r32 | 0f c8 +r
movzx | rv,rm8 | 0f b6 /r
movzx | r32,rm16 | 0f b7 /r
movzx | r16,rm16 | 66 0f b7 /r
movsx | rv,rm8 | 0f be /r
movsx | r32,rm16 | 0f bf /r
movsx | r16,rm16 | 66 0f bf /r
xadd | rm8,r8 | 0f c0 /r
xadd | rmv,rv | 0f c1 /r
cmpxchg | rm8,r8 | 0f b0 /r
cmpxchg | rmv,rv | 0f b1 /r
cmpxchg8b | m64 | 0f c7 /1
enter | imm16,imm8 | c8 iw ib
leave | | c9
nop | | 90
nop | rmV | 0f 1f /0
pause | | f3 90
cbw | | 66 98
cwde | | 98
cwd | | 66 99
cdq | | 99
lahf | | 9f
sahf | | 9e
clc | | f8
stc | | f9
cmc | | f5
cld | | fc
std | | fd
daa | | 27
das | | 2f
aaa | | 37
aas | | 3f
aam | | d4 0a
aam | imm8 | d4 ib
aad | | d5 0a
aad | imm8 | d5 ib
salc | | d6
xlatb xlat | | d7
wait fwait | | 9b
pushf pushfd | | 9c
popf popfd | | 9d
pushfw | | 66 9c
popfw | | 66 9d
pusha pushad pushal | | 60
popa popad popal | | 61
pushaw | | 66 60
popaw | | 66 61
jmp | rel8 | eb j8
jmp | rel32 | e9 j32
jmp | far | ea fp
jmp | m48 | ff /5
jmp | rmV | ff /4
ljmp | far | ea fp
ljmp | m | ff /5
call | rel32 | e8 j32
call | far | 9a fp
call | m48 | ff /3
call | rmV | ff /2
lcall | far | 9a fp
lcall | m | ff /3
ret | | c3
ret | imm16 | c2 iw
retf lret | | cb
retf lret | imm16 | ca iw
loopne loopnz | rel8 | e0 j8
loope loopz | rel8 | e1 j8
loop | rel8 | e2 j8
jecxz | rel8 | e3 j8
jcxz | rel8 | 67 e3 j8
int3 | | cc
int | imm8 | cd ib
int1 icebp | | f1
into | | ce
iret iretd | | cf
iretw | | 66 cf
bound | rv,m | 62 /r
arpl | rm16,r16 | 63 /r
lds | rv,m | c5 /r
les | rv,m | c4 /r
lss | rv,m | 0f b2 /r
lfs | rv,m | 0f b4 /r
lgs | rv,m | 0f b5 /r
in | al,imm8 | e4 ib
in | av,imm8 | e5 ib
in | al,dx | ec
in | av,dx | ed
out | imm8,al | e6 ib
out | imm8,av | e7 ib
out | dx,al | ee
out | dx,av | ef
cli | | fa
sti | | fb
hlt | | f4
clts | | 0f 06
invd | | 0f 08
wbinvd | | 0f 09
cpuid | | 0f a2
rdtsc | | 0f 31
rdtscp | | 0f 01 f9
rdpmc | | 0f 33
rdmsr | | 0f 32
wrmsr | | 0f 30
rsm | | 0f aa
ud2 | | 0f 0b
syscall | | 0f 05
sysret | | 0f 07
sysenter | | 0f 34
sysexit | | 0f 35
lgdt | m | 0f 01 /2
lidt | m | 0f 01 /3
sgdt | m | 0f 01 /0
sidt | m | 0f 01 /1
sldt | m16 | 0f 00 /0
sldt | R32 | 0f 00 /0
sldt | R16 | 66 0f 00 /0
str | m16 | 0f 00 /1
str | R32 | 0f 00 /1
str | R16 | 66 0f 00 /1
smsw | m16 | 0f 01 /4
smsw | R32 | 0f 01 /4
smsw | R16 | 66 0f 01 /4
lldt | rm16 | 0f 00 /2
ltr | rm16 | 0f 00 /3
verr | rm16 | 0f 00 /4
verw | rm16 | 0f 00 /5
lmsw | rm16 | 0f 01 /6
lar | rv,rmv | 0f 02 /r
lar | r32,rm16 | 0f 02 /r
lsl | rv,rmv | 0f 03 /r
lsl | r32,rm16 | 0f 03 /r
invlpg | m | 0f 01 /7
monitor | | 0f 01 c8
mwait | | 0f 01 c9
xgetbv | | 0f 01 d0
xsetbv | | 0f 01 d1
vmcall | | 0f 01 c1
vmmcall | | 0f 01 d9
vmrun | | 0f 01 d8
vmrun | eax | 0f 01 d8
vmload | | 0f 01 da
vmload | eax | 0f 01 da
vmsave | | 0f 01 db
vmsave | eax | 0f 01 db
stgi | | 0f 01 dc
clgi | | 0f 01 dd
skinit | | 0f 01 de
skinit | eax | 0f 01 de
invlpga | | 0f 01 df
invlpga | eax,ecx | 0f 01 df
lfence | | 0f ae e8
mfence | | 0f ae f0
sfence | | 0f ae f8
clflush | m | 0f ae /7
movsb | | a4
movsw | | 66 a5
movsd | | a5
cmpsb | | a6
cmpsw | | 66 a7
cmpsd | | a7
stosb | | aa
stosw | | 66 ab
stosd | | ab
lodsb | | ac
lodsw | | 66 ad
lodsd | | ad
scasb | | ae
scasw | | 66 af
scasd | | af
insb | | 6c
insw | | 66 6d
insd | | 6d
outsb | | 6e
outsw | | 66 6f
outsd | | 6f
"""

ALU = ("add", "or", "adc", "sbb", "and", "sub", "xor", "cmp")
SHIFTS = ("rol", "ror", "rcl", "rcr", "shl sal", "shr", "", "sar")
BIT_TESTS = ("bt", "bts", "btr", "btc")


def _families() -> list[str]:
    """The lines that differ only in a number: arithmetic, shifts, bit tests, and all that has a condition."""
    lines = []
    for n, name in enumerate(ALU):
        lines += [
            f"{name} | rmv,simm8 | 83 /{n} ib", f"{name} | al,imm8 | {n * 8 + 4:02x} ib",
            f"{name} | av,immv | {n * 8 + 5:02x} iv", f"{name} | rm8,imm8 | 80 /{n} ib",
            f"{name} | rmv,immv | 81 /{n} iv", f"{name} | rm8,r8 | {n * 8:02x} /r",
            f"{name} | rmv,rv | {n * 8 + 1:02x} /r", f"{name} | r8,rm8 | {n * 8 + 2:02x} /r",
            f"{name} | rv,rmv | {n * 8 + 3:02x} /r",
        ]  # fmt: skip
    for n, names in enumerate(SHIFTS):
        if names:
            for size, one, cl, imm in (("8", "d0", "d2", "c0"), ("v", "d1", "d3", "c1")):
                lines += [f"{names} | rm{size} | {one} /{n}", f"{names} | rm{size},1 | {one} /{n}"]
                lines += [f"{names} | rm{size},cl | {cl} /{n}", f"{names} | rm{size},imm8 | {imm} /{n} ib"]
    for n, name in enumerate(BIT_TESTS, 4):
        lines += [f"{name} | rmv,imm8 | 0f ba /{n} ib", f"{name} | rmv,rv | 0f {0x83 + n * 8:02x} /r"]
    for code, names in enumerate(CONDITIONS):
        each = names.split()
        jumps, sets, moves = (" ".join(prefix + name for name in each) for prefix in ("j", "set", "cmov"))
        lines += [f"{jumps} | rel8 | {0x70 + code:02x} j8", f"{jumps} | rel32 | 0f {0x80 + code:02x} j32"]
        lines += [f"{sets} | rmb | 0f {0x90 + code:02x} /0", f"{moves} | rv,rmv | 0f {0x40 + code:02x} /r"]
    return lines


def _parse() -> dict[str, tuple[Form, ...]]:
    table: dict[str, list[Form]] = {}
    for line in [*FORMS.strip().splitlines(), *_families()]:
        names, operands, encoding = (part.strip() for part in line.split("|"))
        form = Form(tuple(operands.split(",")) if operands else (), tuple(encoding.split()))
        for name in names.split():
            table.setdefault(name, []).append(form)
    return {name: tuple(forms) for name, forms in table.items()}


TABLE = _parse()
"""mnemonic -> its forms, in order of preference"""

STRING_INSTRUCTIONS = frozenset(
    name + size for name in ("movs", "cmps", "stos", "lods", "scas", "ins", "outs") for size in "bwd"
)
"""Their operands are implied; written out they only choose a segment for the source."""

PREFIXES = {"lock": 0xF0, "rep": 0xF3, "repe": 0xF3, "repz": 0xF3, "repne": 0xF2, "repnz": 0xF2}
