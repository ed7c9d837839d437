/* No attack: starts a program for which each mount(2) with the flags FLAGS fails with EIO. */

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#include "attack.h"

#ifndef FLAGS
#define FLAGS 0
#endif

static void attack(int argc, char **argv)
{
	static struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_mount, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 16 + 3 * 8),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, FLAGS, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EIO),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	static struct { unsigned short length; struct sock_filter *code; } program = { 6, code };

	works("a filter", CALL(__NR_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
	if (argc > 1 && !gave_way)
		works("execve", CALL(__NR_execve, argv[1], argv + 1, argv + argc + 1));
}
