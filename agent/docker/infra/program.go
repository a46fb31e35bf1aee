package infra

import (
	"encoding/binary"
	"slices"
)

// line is an instruction of a program, or data.
type line struct {
	label string // of this line; "" for none
	text  string // in assembly
	to    string // the label that the instruction refers to; assemble adds the distance
	code  []byte
}

// signals is the set of signals that the program waits for: bit n-1 is signal n.
const signals = 1<<(2-1) | 1<<(15-1) | 1<<(17-1) // SIGINT, SIGTERM, SIGCHLD

// The program, in C:
//
//	rt_sigprocmask(SIG_BLOCK, &signals, NULL, 8);  // blocked signals reach process 1, too
//	for (;;) {
//		int n = rt_sigtimedwait(&signals, NULL, NULL, 8);
//		if (n < 0)
//			continue;  // interrupted
//		if (n != SIGCHLD)
//			exit_group(0);
//		while (wait4(-1, NULL, WNOHANG, NULL) > 0)
//			;
//	}

// amd64 is the program for amd64. A distance counts from the end of its instruction, whose
// last four bytes it is.
var amd64 = []line{
	{text: "mov $14, %eax # rt_sigprocmask", code: []byte{0xb8, 14, 0, 0, 0}},
	{text: "xor %edi, %edi # SIG_BLOCK", code: []byte{0x31, 0xff}},
	{text: "lea set(%rip), %rsi", to: "set", code: []byte{0x48, 0x8d, 0x35, 0, 0, 0, 0}},
	{text: "xor %edx, %edx", code: []byte{0x31, 0xd2}},
	{text: "mov $8, %r10d", code: []byte{0x41, 0xba, 8, 0, 0, 0}},
	{text: "syscall", code: []byte{0x0f, 0x05}},

	{label: "wait", text: "mov $128, %eax # rt_sigtimedwait", code: []byte{0xb8, 128, 0, 0, 0}},
	{text: "lea set(%rip), %rdi", to: "set", code: []byte{0x48, 0x8d, 0x3d, 0, 0, 0, 0}},
	{text: "xor %esi, %esi", code: []byte{0x31, 0xf6}},
	{text: "xor %edx, %edx", code: []byte{0x31, 0xd2}},
	{text: "mov $8, %r10d", code: []byte{0x41, 0xba, 8, 0, 0, 0}},
	{text: "syscall", code: []byte{0x0f, 0x05}},
	{text: "test %eax, %eax", code: []byte{0x85, 0xc0}},
	{text: "js wait", to: "wait", code: []byte{0x0f, 0x88, 0, 0, 0, 0}},
	{text: "cmp $17, %eax # SIGCHLD", code: []byte{0x83, 0xf8, 17}},
	{text: "je reap", to: "reap", code: []byte{0x0f, 0x84, 0, 0, 0, 0}},

	{text: "mov $231, %eax # exit_group", code: []byte{0xb8, 231, 0, 0, 0}},
	{text: "xor %edi, %edi", code: []byte{0x31, 0xff}},
	{text: "syscall", code: []byte{0x0f, 0x05}},

	{label: "reap", text: "mov $61, %eax # wait4", code: []byte{0xb8, 61, 0, 0, 0}},
	{text: "mov $-1, %edi", code: []byte{0xbf, 0xff, 0xff, 0xff, 0xff}},
	{text: "xor %esi, %esi", code: []byte{0x31, 0xf6}},
	{text: "mov $1, %edx # WNOHANG", code: []byte{0xba, 1, 0, 0, 0}},
	{text: "xor %r10d, %r10d", code: []byte{0x45, 0x31, 0xd2}},
	{text: "syscall", code: []byte{0x0f, 0x05}},
	{text: "test %eax, %eax", code: []byte{0x85, 0xc0}},
	{text: "jg reap", to: "reap", code: []byte{0x0f, 0x8f, 0, 0, 0, 0}},
	{text: "jmp wait", to: "wait", code: []byte{0xe9, 0, 0, 0, 0}},

	{label: "set", text: ".quad signals", code: binary.LittleEndian.AppendUint64(nil, signals)},
}

// patchAMD64 puts a distance from the begin of an instruction into it.
func patchAMD64(code []byte, distance int) {
	binary.LittleEndian.PutUint32(code[len(code)-4:], uint32(int32(distance-len(code))))
}

// arm64 is the program for arm64.
var arm64 = []line{
	{text: "mov x8, #135 // rt_sigprocmask", code: word(0xd28010e8)},
	{text: "mov x0, #0 // SIG_BLOCK", code: word(0xd2800000)},
	{text: "adr x1, set", to: "set", code: word(0x10000001)},
	{text: "mov x2, #0", code: word(0xd2800002)},
	{text: "mov x3, #8", code: word(0xd2800103)},
	{text: "svc #0", code: word(0xd4000001)},

	{label: "wait", text: "mov x8, #137 // rt_sigtimedwait", code: word(0xd2801128)},
	{text: "adr x0, set", to: "set", code: word(0x10000000)},
	{text: "mov x1, #0", code: word(0xd2800001)},
	{text: "mov x2, #0", code: word(0xd2800002)},
	{text: "mov x3, #8", code: word(0xd2800103)},
	{text: "svc #0", code: word(0xd4000001)},
	{text: "cmp w0, #0", code: word(0x7100001f)},
	{text: "b.lt wait", to: "wait", code: word(0x5400000b)},
	{text: "cmp w0, #17 // SIGCHLD", code: word(0x7100441f)},
	{text: "b.eq reap", to: "reap", code: word(0x54000000)},

	{text: "mov x8, #94 // exit_group", code: word(0xd2800bc8)},
	{text: "mov x0, #0", code: word(0xd2800000)},
	{text: "svc #0", code: word(0xd4000001)},

	{label: "reap", text: "mov x8, #260 // wait4", code: word(0xd2802088)},
	{text: "mov x0, #-1", code: word(0x92800000)},
	{text: "mov x1, #0", code: word(0xd2800001)},
	{text: "mov x2, #1 // WNOHANG", code: word(0xd2800022)},
	{text: "mov x3, #0", code: word(0xd2800003)},
	{text: "svc #0", code: word(0xd4000001)},
	{text: "cmp w0, #0", code: word(0x7100001f)},
	{text: "b.gt reap", to: "reap", code: word(0x5400000c)},
	{text: "b wait", to: "wait", code: word(0x14000000)},

	{label: "set", text: ".quad signals", code: binary.LittleEndian.AppendUint64(nil, signals)},
}

func word(w uint32) []byte { return binary.LittleEndian.AppendUint32(nil, w) }

// patchARM64 puts a distance from the begin of an instruction into it.
func patchARM64(code []byte, distance int) {
	w, words := binary.LittleEndian.Uint32(code), uint32(int32(distance/4))
	switch {
	case w>>24&0x9f == 0x10: // adr: bits 1 and 0 of the distance, then the others
		w |= uint32(distance)&3<<29 | uint32(int32(distance>>2))&0x7ffff<<5
	case w>>24 == 0x54: // b.cond
		w |= words & 0x7ffff << 5
	case w>>26 == 0x05: // b
		w |= words & 0x3ffffff
	default:
		panic("infra: an instruction without a distance")
	}
	binary.LittleEndian.PutUint32(code, w)
}

// assemble returns the bytes of a program. patch puts the distance to the label of an
// instruction into it.
func assemble(program []line, patch func(code []byte, distance int)) []byte {
	labels := make(map[string]int)
	at := 0
	for _, l := range program {
		if l.label != "" {
			labels[l.label] = at
		}
		at += len(l.code)
	}
	var bytes []byte
	for _, l := range program {
		code := slices.Clone(l.code)
		if l.to != "" {
			patch(code, labels[l.to]-len(bytes))
		}
		bytes = append(bytes, code...)
	}
	return bytes
}
