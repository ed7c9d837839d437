/* What every attack has in common: system calls without a C library, so that a program can also stand in for the
 * dynamic loader, and a verdict. An attack ends with 0 when it was refused, with 1 when something gave way. */

#ifndef ATTACK_H
#define ATTACK_H

#include <asm/errno.h>
#include <asm/unistd.h>
#include <linux/fcntl.h>
#include <linux/stat.h>

#ifndef AT_FDCWD
#define AT_FDCWD -100
#endif

typedef unsigned long word;

#ifdef __x86_64__
static long call6(long n, word a, word b, word c, word d, word e, word f)
{
	long result;
	register word r10 __asm__("r10") = d;
	register word r8 __asm__("r8") = e;
	register word r9 __asm__("r9") = f;

	__asm__ volatile("syscall" : "=a"(result) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return result;
}
__asm__(".globl _start\n_start:\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall begin\n\thlt\n");
#else
/* i386 as a 32-bit program has it; six arguments are never needed. */
static long call6(long n, word a, word b, word c, word d, word e, word f)
{
	long result;

	(void)f;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(n), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory");
	return result;
}
__asm__(".globl _start\n_start:\n\tmov %esp, %eax\n\tand $-16, %esp\n\tsub $12, %esp\n\tpush %eax\n\tcall begin\n\thlt\n");
#endif

#define CALL_(n, a, b, c, d, e, f, ...) call6(n, (word)(a), (word)(b), (word)(c), (word)(d), (word)(e), (word)(f))
/* The result of a system call, or the negative error. */
#define CALL(...) CALL_(__VA_ARGS__, 0, 0, 0, 0, 0, 0, 0)

static int gave_way;

static word length(const char *text)
{
	word n = 0;

	while (text[n])
		n++;
	return n;
}

static void say(const char *text)
{
	CALL(__NR_write, 2, text, length(text));
}

static void say_number(long number)
{
	char digits[24];
	int at = sizeof(digits);
	int negative = number < 0;
	unsigned long rest = negative ? -(unsigned long)number : (unsigned long)number;

	digits[--at] = 0;
	do
		digits[--at] = '0' + rest % 10;
	while (rest /= 10);
	if (negative)
		digits[--at] = '-';
	say(digits + at);
}

/* That a call failed, and with this error when one is named (0: any). */
static void refused(const char *what, long result, int error)
{
	if (result < 0 && (error == 0 || result == -error))
		return;
	gave_way = 1;
	say(what);
	say(": ");
	say_number(result);
	say("\n");
}

/* That something which must go on working does. */
static void works(const char *what, long result)
{
	if (result >= 0)
		return;
	gave_way = 1;
	say(what);
	say(" does not work: ");
	say_number(result);
	say("\n");
}

static void end(void)
{
	if (!gave_way)
		say("held\n");
	CALL(__NR_exit_group, gave_way);
}

static void attack(int argc, char **argv);

__attribute__((used)) void begin(word *stack)
{
	attack((int)stack[0], (char **)(stack + 1));
	end();
}

#endif
