"""The count of instructions on code that is short enough to count by hand."""

import struct
import unittest

import counts
import registers
import sass
import toolchain
from lane import PARAMETERS, Lane, Lost
from launches import launch
from words import WORD, Partly, lookup


def run(code, args=b"", block=(256, 1, 1)):
    """Runs a listing without addresses, which are 16 bytes apart; the lane and what it issued."""
    lines, at = ["\t.section\t.text.kernel,\"ax\"", "kernel:"], 0
    for line in code.strip().splitlines():
        if line.strip().endswith(":"):
            lines.append(line.strip())
        else:
            lines.append(f"        /*{at:04x}*/  {line.strip()} ;")
            at += 16
    kernels = sass.functions("\n".join(lines))
    made = launch("kernel", "f32", "f32", "8", str(block[0]), str(block[1]), "0", "0", "0", "4", args.hex())
    lane = Lane(kernels["kernel"], 90, made)
    return lane, lane.run()


def register(lane, name):
    return lane.word(sass.operand(name))


class Paths(unittest.TestCase):
    def test_a_loop_takes_as_many_turns_as_the_arguments_say(self):
        code = """
            LDC R0, c[0x0][0x210]
            MOV R1, RZ
            .L_x_0:
            IADD3 R1, R1, 0x1, RZ
            FFMA R2, R2, R2, R2
            ISETP.GE.U32.AND P0, PT, R1, R0, PT
            @!P0 BRA `(.L_x_0)
            EXIT
        """
        for turns in (1, 2, 9):
            self.assertEqual(run(code, struct.pack("<I", turns))[1], 2 + 4 * turns + 1)

    def test_a_predicated_instruction_is_issued(self):
        self.assertEqual(run("ISETP.NE.AND P0, PT, RZ, RZ, PT\n@P0 MOV R0, 0x7\nEXIT")[1], 3)

    def test_an_exit_that_is_not_taken(self):
        self.assertEqual(run("ISETP.NE.AND P0, PT, RZ, RZ, PT\n@P0 EXIT\nNOP\nEXIT")[1], 4)

    def test_the_slow_path_of_a_division_is_not_taken(self):
        code = """
            FCHK P0, R2, R3
            @!P0 BRA `(.L_x_0)
            MOV R4, 0x40
            CALL.REL.NOINC `(slow)
            .L_x_0:
            EXIT
        """
        self.assertEqual(run(code)[1], 3)
        with self.assertRaisesRegex(Lost, "CALL"):
            run("CALL.REL.NOINC `(slow)\nEXIT")

    def test_a_branch_on_what_memory_holds_is_refused(self):
        code = """
            LDG.E R0, desc[UR4][R2.64]
            ISETP.NE.AND P0, PT, R0, RZ, PT
            @P0 BRA `(.L_x_0)
            .L_x_0:
            EXIT
        """
        with self.assertRaisesRegex(Lost, "unknown predicate"):
            run(code)
        with self.assertRaisesRegex(Lost, "unknown predicate"):
            run("@P0 EXIT\nEXIT")

    def test_a_vote_on_what_nobody_knows_finds_no_row_that_strays(self):
        code = """
            FSETP.GEU.AND P0, PT, R2, +INF, PT
            VOTE.ANY P0, P0
            @P0 BRA `(.L_x_0)
            EXIT
            .L_x_0:
            NOP
            EXIT
        """
        self.assertEqual(run(code)[1], 4)
        self.assertEqual(run(code.replace("FSETP.GEU.AND P0, PT, R2, +INF, PT", "ISETP.EQ.AND P0, PT, RZ, RZ, PT"))[1], 5)

    def test_a_block_is_taken_to_have_no_row_that_strays(self):
        code = """
            BAR.RED.OR.DEFER_BLOCKING 0x0, P1
            B2R.RESULT RZ, P0
            @P0 BRA `(.L_x_0)
            EXIT
            .L_x_0:
            NOP
            EXIT
        """
        self.assertEqual(run(code)[1], 4)

    def test_a_loop_without_end_is_refused(self):
        with self.assertRaisesRegex(Lost, "more than"):
            run(".L_x_0:\nBRA `(.L_x_0)\nEXIT")


class Values(unittest.TestCase):
    def check(self, code, **expected):
        lane, _ = run(code + "\nEXIT")
        for name, value in expected.items():
            self.assertEqual(register(lane, name), value, name)

    def test_carries(self):
        self.check("MOV R0, 0xffffffff\nIADD3 R1, P0, R0, 0x1, RZ\nIADD3.X R2, RZ, 0x5, RZ, P0, !PT", R1=0, R2=6)
        # x - 0 carries, as x - y does if y is at most x.
        self.check("MOV R0, 0x3\nIADD3 R1, P0, R0, -RZ, RZ\nIADD3.X R2, RZ, RZ, RZ, P0, !PT", R1=3, R2=1)
        self.check("MOV R0, 0xc0000000\nLEA R1, P0, R0, 0x8, 0x2\nLEA.HI.X R2, R0, 0x1, RZ, 0x2, P0", R1=8, R2=4)

    def test_products(self):
        self.check("MOV R0, 0x80000000\nMOV R4, 0x1\nMOV R5, 0x2\nIMAD.WIDE.U32 R2, R0, 0x6, R4", R2=1, R3=5)
        self.check("MOV R0, 0x80000000\nMOV R4, RZ\nMOV R5, 0x2\nIMAD.HI.U32 R2, R0, 0x6, R4", R2=5)
        self.check("MOV R0, 0x7\nIMAD.MOV R1, RZ, RZ, -R0\nIMAD.X R2, RZ, RZ, R0, PT", R1=WORD - 6, R2=8)

    def test_a_division_of_words_as_ptxas_writes_it(self):
        divide = """
            MOV R0, {a:#x}
            MOV R1, {b:#x}
            I2F.U32.RP R2, R1
            MUFU.RCP R2, R2
            IADD3 R2, R2, 0xffffffe, RZ
            F2I.FTZ.U32.TRUNC.NTZ R3, R2
            MOV R2, RZ
            IADD3 R4, RZ, -R3, RZ
            IMAD R5, R4, R1, RZ
            IMAD.HI.U32 R3, R3, R5, R2
            IMAD.HI.U32 R3, R3, R0, RZ
            IADD3 R4, -R3, RZ, RZ
            IMAD R4, R1, R4, R0
            ISETP.GE.U32.AND P0, PT, R4, R1, PT
            @P0 IADD3 R4, R4, -R1, RZ
            @P0 IADD3 R3, R3, 0x1, RZ
            ISETP.GE.U32.AND P1, PT, R4, R1, PT
            @P1 VIADD R3, R3, 0x1
        """
        for a, b in ((16384, 8), (1000, 7), (0, 3), (WORD, 1), (WORD, 65535), (4095, 4096)):
            self.check(divide.format(a=a, b=b), R3=a // b)

    def test_constants_of_two_halves(self):
        self.check("HFMA2.MMA R0, -RZ, RZ, 1.875, 0\nHFMA2.MMA R1, -RZ, RZ, 0, 5.9604644775390625e-08", R0=0x3F800000, R1=1)

    def test_comparisons_of_pairs(self):
        code = "MOV R0, {0}\nMOV R1, {1}\nISETP.{2}.U32.AND P0, PT, R0, 0x5, PT\n" \
               "ISETP.{2}.U32.AND.EX P0, PT, R1, 0x1, PT, P0\nSEL R2, 0x1, RZ, P0"
        for low, high in ((4, 1), (5, 1), (6, 1), (9, 0), (0, 2)):
            pair, other = high << 32 | low, 1 << 32 | 5
            self.check(code.format(hex(low), hex(high), "GE"), R2=int(pair >= other))
            self.check(code.format(hex(low), hex(high), "LT"), R2=int(pair < other))
            self.check(code.format(hex(low), hex(high), "EQ"), R2=int(pair == other))
            self.check(code.format(hex(low), hex(high), "NE"), R2=int(pair != other))

    def test_a_bit_of_a_word_that_nobody_has_set(self):
        self.check("LOP3.LUT R9, R9, 0x4, RZ, 0xfc, !PT\nLOP3.LUT P0, RZ, R9, 0x4, RZ, 0xc0, !PT\nSEL R0, 0x1, RZ, P0",
                   R0=1, R9=None)
        # A predicate goes in by OR.
        self.check("ISETP.NE.AND P1, PT, RZ, RZ, PT\nLOP3.LUT P0, RZ, RZ, 0x0, RZ, 0xfc, !P1\nSEL R0, 0x1, RZ, P0", R0=1)
        self.assertEqual(lookup([Partly(1, 1), Partly(0, WORD), Partly(0, WORD)], 0xC0), Partly(0, WORD))

    def test_comparisons_of_floating_point(self):
        code = "MOV R0, {0:#x}\nFSETP.{1}.AND P0, PT, R0, 1, PT\nSEL R2, 0x1, RZ, P0"
        for bits, how, result in ((0x3F800000, "NEU", 0), (0x3F800000, "GE", 1), (0x3F000000, "LT", 1), (0x7FC00000, "GEU", None)):
            self.check(code.format(bits, how), R2=result)
        self.check("ISETP.NE.AND P1, PT, RZ, RZ, PT\nFSETP.LT.AND P0, PT, R9, 1, P1\nSEL R2, 0x1, RZ, P0", R2=0)

    def test_bytes(self):
        self.check("MOV R0, 0x8001\nPRMT R1, R0, 0x9910, RZ\nPRMT R2, R0, 0x7610, R0", R1=0xFFFF8001, R2=0x8001)
        lane, _ = run("LDC.U8 R0, c[0x0][0x211]\nLDC.U16 R1, c[0x0][0x212]\nEXIT", bytes((1, 2, 3, 4)))
        self.assertEqual([register(lane, f"R{i}") for i in range(2)], [2, 0x403])

    def test_shifts(self):
        self.check("MOV R0, 0x80000001\nMOV R1, 0x3\nSHF.R.U64 R2, R0, 0x1, R1\nSHF.L.U64.HI R3, R0, 0x1, R1\n"
                   "SHF.R.S32.HI R4, RZ, 0x1f, R0\nSHF.L.U32 R5, R0, 0x1, RZ",
                   R2=0xC0000000, R3=7, R4=WORD, R5=2)

    def test_the_launch_stands_in_the_constant_bank(self):
        lane, _ = run("LDC.64 R0, c[0x0][RZ]\nLDC.64 R2, c[0x0][0x210]\nLDC R4, c[0x0][0xc]\nEXIT",
                      struct.pack("<Q", 5 << 32 | 7), (32, 8, 1))
        self.assertEqual([register(lane, f"R{i}") for i in range(5)], [32, 8, 7, 5, 8])
        self.assertEqual(PARAMETERS[90], 0x210)


class Files(unittest.TestCase):
    def test_more_than_two_percent_is_a_complaint(self):
        def table(count, name="k"):
            return [counts.HEAD, [name, "f32", "f32", "100", str(count), f"{count / 100:.2f}"]]

        self.assertEqual(list(counts.complaints(table(1000), table(1020))), [])
        self.assertEqual(list(counts.complaints(table(1000), table(500))), [])
        self.assertEqual(len(list(counts.complaints(table(1000), table(1021)))), 1)
        self.assertEqual(len(list(counts.complaints(table(1000), table(1000, "other")))), 2)

    def test_registers_and_spills(self):
        report = ("ptxas info    : Compiling entry function 'dyt_fold' for 'sm_90'\n"
                  "ptxas info    : Function properties for dyt_fold\n"
                  "    8 bytes stack frame, 4 bytes spill stores, 12 bytes spill loads\n"
                  "ptxas info    : Used 70 registers, used 1 barriers, 96 bytes smem\n")
        uses = toolchain.uses(report)
        self.assertEqual(uses, {"dyt_fold": toolchain.Use(70, 96, 8, 16)})
        self.assertEqual(len(list(registers.complaints({90: uses}))), 2)
        self.assertEqual(list(registers.complaints({90: {"dyt_fold": toolchain.Use(64, 0, 0, 0)}})), [])

    def test_occupancy(self):
        # 64 registers: 32 warps of 64. 227 KiB: one block.
        self.assertEqual(registers.occupancy(toolchain.Use(64, 0, 0, 0), 256, 0, 90), 50)
        self.assertEqual(registers.occupancy(toolchain.Use(64, 0, 0, 0), 512, 232448, 90), 25)

    def test_the_bounds_of_a_kernel(self):
        ptx = ".visible .entry k(\n.param .align 8 .b8 k_param_0[8]\n)\n.maxntid 512, 1, 1\n.minnctapersm 1\n{\n"
        self.assertEqual(registers.threads(ptx), {"k": 512})


if __name__ == "__main__":
    unittest.main()
